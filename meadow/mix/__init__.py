"""Mixtures: datasets whose rows are drawn from other datasets, as a YAML file says.

A mixture names its parts (dataset, versions, splits, how many rows) and a seed. It is built from built
datasets, is one itself (``mixture_<name>``), and has a lock file beside its manifest from which it can be
built again to the byte. A part that is not on this machine is an error; nothing shrinks in silence.
"""
