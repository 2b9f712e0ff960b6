"""Mutation testing of `protocol` and the broker's services; see scripts/mutants.sh."""
