"""Filling the raw store: the only part of Meadow that reads from the network.

``fetch(["wikidoc"])`` downloads what a source declares in its ``checksums.tsv``, or copies it from a mirror;
`check` compares what is there with what was declared and noted; `pack` and `unpack` carry it where no network
reaches. Building needs none of them.
"""

from meadow.fetch.addresses import Address, AddressError
from meadow.fetch.download import Patience
from meadow.fetch.filling import Listed, check, fetch, listing
from meadow.fetch.outcome import Fetched, FetchError, FetchReport, FetchStoppedError, Progress, locked
from meadow.fetch.packing import Packed, pack
from meadow.fetch.unpacking import Unpacked, unpack

__all__ = [
    "Address",
    "AddressError",
    "FetchError",
    "FetchReport",
    "FetchStoppedError",
    "Fetched",
    "Listed",
    "Packed",
    "Patience",
    "Progress",
    "Unpacked",
    "check",
    "fetch",
    "listing",
    "locked",
    "pack",
    "unpack",
]
