"""Scripts that measure vegflow, where possible against a peer in the same run: `python -m benchmarks NAME`."""
