"""A first look at a run: counts by filter, a magnitude histogram, depth by exposure time.

    python examples/first_look.py hstmap-out

All of it is pandas; every column is described in docs/columns.md.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def main(out: str) -> None:
    # Of a large run a folder of files.
    folder = Path(out, "sources")
    sources = pd.read_parquet(folder if folder.is_dir() else f"{out}/sources.parquet")
    images = pd.read_parquet(f"{out}/images.parquet")

    print("How the images ended:")
    print(images.groupby(["outcome", "reason"]).size().rename("n_images").to_string())

    good = images[images["outcome"] == "ok"]
    print("\nImages and sources by filter:")
    by_filter = good.groupby("filter").agg(
        n_images=("rootname", "size"), n_sources=("n_sources", "sum")
    )
    print(by_filter.to_string())

    # Flag 32, a masked pixel somewhere in the aperture, is made up for; the others are not.
    clean = sources[(sources["flags"] & ~32 == 0) & (sources["snr"] > 5)]
    print(f"\nMagnitudes of {len(clean):,} clean sources above 5 sigma:")
    bins = np.arange(14, 30)
    histogram = pd.cut(clean["mag_auto"], bins).value_counts(sort=False)
    widest = max(histogram.max(), 1)
    for interval, n in histogram[histogram > 0].items():
        print(f"{interval.left:4.0f} to {interval.right:2.0f} {n:7,}  {'#' * (n * 50 // widest)}")

    print("\nDepth (5 sigma, AB mag in an aperture of 0.45 arcsec) by filter and exposure:")
    depth = good.groupby(["filter", good["exposure_s"].round()])["depth_5sigma"]
    print(depth.agg(["size", "median"]).round(2).to_string())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "hstmap-out")
