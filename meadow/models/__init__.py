"""Language models in local folders: loading them safely, a tiny one to try things with, their fingerprints.

A model is a folder, never a name on a hub: nothing is fetched, no code in a folder is run, and weights are
safetensors unless the caller allows pickles. Heavy libraries are imported when a model is loaded, not before.
"""

from meadow.models.environment import describe_hardware, offline
from meadow.models.errors import ModelError
from meadow.models.folder import check_folder, fingerprint
from meadow.models.loading import Loaded, load
from meadow.models.saving import save
from meadow.models.tiny import make_tiny, tiny_folder
from meadow.models.tokenizers import choose_pad, load_tokenizer

__all__ = [
    "Loaded",
    "ModelError",
    "check_folder",
    "choose_pad",
    "describe_hardware",
    "fingerprint",
    "load",
    "load_tokenizer",
    "make_tiny",
    "offline",
    "save",
    "tiny_folder",
]
