"""mlflow's trackers record what the user fits; its models load. Runs where mlflow is installed."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisy import ALRClassifier, SyntheticMixClassifier

mlflow = pytest.importorskip("mlflow", reason="a heavy package, not among those for tests")
# Its own imports and file formats warn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
X, Y = load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def tracking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.sklearn.autolog(disable=True)


def recorded(estimator):
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run() as run:
        estimator.fit(X, Y)
    return mlflow.get_run(run.info.run_id).data


def test_no_inner_estimator_is_recorded():
    found = recorded(SyntheticMixClassifier(max_epochs=4, warmup_epochs=1, random_state=0))
    assert "estimator_name" not in found.tags
    assert not found.params


def test_in_a_pipeline_the_parameters_are_recorded():
    found = recorded(make_pipeline(SyntheticMixClassifier(max_epochs=4, warmup_epochs=1)))
    assert found.tags["estimator_name"] == "Pipeline"
    assert found.params["syntheticmixclassifier__max_epochs"] == "4"


@pytest.mark.parametrize(
    "how",
    [
        {"serialization_format": "skops", "skops_trusted_types": ["sknoisy.alr.ALRClassifier"]},
        {"serialization_format": "cloudpickle"},
    ],
)
def test_models_load_as_they_were_logged(how):
    pipeline = make_pipeline(StandardScaler(), ALRClassifier(max_epochs=4, random_state=0))
    pipeline.fit(X, Y)
    with mlflow.start_run():
        uri = mlflow.sklearn.log_model(pipeline, name="model", **how).model_uri
    loaded = mlflow.sklearn.load_model(uri)
    np.testing.assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))
