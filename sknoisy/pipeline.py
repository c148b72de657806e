"""Pipelines that transform trusted rows as they transform X, and what is at their end."""

from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline

META_INPUTS = ["meta_X", "unlabeled_X"]
FIT_PARAMS = ("meta_X", "meta_y", "trusted", "unlabeled_X")


def make_noisy_pipeline(*steps, memory=None, verbose=False) -> Pipeline:
    """Build a Pipeline that passes trusted rows to its last step, transformed like X.

    The last step requests ``meta_X``, ``meta_y``, ``trusted`` and ``unlabeled_X``, and the
    transformers before it transform ``meta_X`` and ``unlabeled_X`` as they transform X. Fitting
    needs scikit-learn's metadata routing: ``sklearn.set_config(enable_metadata_routing=True)``.

    Parameters
    ----------
    *steps : estimators
        Transformers, then a `MetaLabelNetClassifier`.
    memory, verbose
        As in `sklearn.pipeline.make_pipeline`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Works as it is in GridSearchCV and cross_validate. There pass trusted rows as 1-tuples,
        ``meta_X=(M,)`` and ``meta_y=(my,)``: an array as long as X would be sliced to each fold.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknoisy import MetaLabelNetClassifier, make_noisy_pipeline
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     pipeline = make_noisy_pipeline(StandardScaler(), MetaLabelNetClassifier())
    """
    if not steps or not hasattr(steps[-1], "set_fit_request"):
        last = steps[-1] if steps else None
        raise TypeError(
            f"make_noisy_pipeline must end in a classifier whose fit takes meta_X, such as"
            f" MetaLabelNetClassifier, got {last!r}."
        )
    with config_context(enable_metadata_routing=True):
        try:
            steps[-1].set_fit_request(**dict.fromkeys(FIT_PARAMS, True))
        except TypeError as error:
            raise TypeError(
                f"make_noisy_pipeline must end in a classifier whose fit takes meta_X, such as"
                f" MetaLabelNetClassifier, got {type(steps[-1]).__name__}; for others"
                " sklearn.pipeline.make_pipeline does."
            ) from error
        return make_pipeline(
            *steps, memory=memory, verbose=verbose, transform_input=list(META_INPUTS)
        )


def fitted_estimator(estimator):
    """Return a fitted estimator of this library: the one given, or that at the end of what is.

    Parameters
    ----------
    estimator : estimator, Pipeline or search
        A Pipeline ends in its last step, a search in its `best_estimator_`.

    Raises
    ------
    TypeError
        If it is none of this library's.
    NotFittedError
        If it is not fitted.
    """
    if isinstance(estimator, Pipeline):
        return fitted_estimator(estimator[-1])
    if hasattr(estimator, "best_estimator_"):
        return fitted_estimator(estimator.best_estimator_)
    if hasattr(estimator, "error_score"):  # a search
        raise NotFittedError(
            f"estimator must have a best_estimator_, got {type(estimator).__name__} without; fit"
            " the search with refit=True."
        )
    if hasattr(estimator, "__len__") and not hasattr(estimator, "fit"):
        raise TypeError(
            f"estimator must be a fitted estimator, got {type(estimator).__name__}; labels and"
            " probabilities go by name: find_label_issues(y=labels, pred_probs=pred_probs)."
        )
    try:
        _ = estimator.soft_labels_
    except NotFittedError:
        raise
    except AttributeError as error:
        raise TypeError(
            f"estimator must be one of this library's, or a Pipeline or search that ends in one,"
            f" got {type(estimator).__name__}; for other classifiers pass y and"
            " pred_probs=cross_val_predict(clf, X, y, method='predict_proba')."
        ) from error
    return estimator
