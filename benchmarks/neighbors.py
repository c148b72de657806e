"""Whole-set nearest neighbours: seconds against faiss and scikit-learn, and the peak of memory.

python benchmarks/neighbors.py [--rows 50000] [--repeats 3]
"""

import argparse
import importlib.util
import resource
import sys

import machine
import torch
from sklearn.neighbors import NearestNeighbors

from sknoisy.synthetic_mix import neighbors

DIMENSIONS, K = 512, 3


def peak_megabytes():
    """Return the largest memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def main(rows, repeats):
    features = torch.randn(rows, DIMENSIONS, generator=torch.Generator().manual_seed(0)).relu()
    print(machine.describe())
    print(f"{rows} x {DIMENSIONS}, {K} neighbours, median of {repeats}")
    print(f"features and libraries: {peak_megabytes():.0f} MB")

    def chunks():
        neighbors.FAISS_ROWS = rows + 1
        return neighbors.nearest_in_set(features, K)

    chunks()
    megabytes = neighbors.CHUNK_BYTES / 2**20
    print(f"peak after our chunks of {megabytes:.0f} MB: {peak_megabytes():.0f} MB")
    jobs = {"torch chunks": chunks}
    if importlib.util.find_spec("faiss"):
        import faiss

        def ours():
            neighbors.FAISS_ROWS = 1
            return neighbors.nearest_in_set(features, K)

        def flat():
            index = faiss.IndexFlatL2(DIMENSIONS)
            index.add(features.numpy())
            return index.search(features.numpy(), K + 1)

        ours()
        print(f"peak after faiss: {peak_megabytes():.0f} MB")
        print(
            f"rows with the same neighbours: {(ours() == chunks()).all(dim=1).float().mean():.4%}"
        )
        jobs |= {"ours through faiss": ours, "faiss flat": flat}
    else:
        print("faiss is not installed: pip install sknoisy[faiss]")
    if rows <= 20_000:
        jobs["scikit-learn brute"] = lambda: (
            NearestNeighbors(n_neighbors=K, algorithm="brute").fit(features.numpy()).kneighbors()
        )
    seconds = machine.median_seconds(jobs, repeats)
    for name, taken in seconds.items():
        print(f"{name:<22}{taken:>8.1f} s")
    if "faiss flat" in seconds:
        ratio = seconds["ours through faiss"] / seconds["faiss flat"]
        print(f"ours through faiss / faiss flat: {ratio:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    main(**vars(parser.parse_args()))
