"""Networks, peers and timings that hasten is measured on. Nothing here is installed with the package."""
