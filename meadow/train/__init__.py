"""Fine-tuning language models on Meadow's datasets: in full, or with adapters, in 16, 8 or 4 bits.

The recipes call these functions one after the other, and are there to be read: rows and their layout (`load_rows`,
`plan_steps`), the model (`open_model`, `add_adapters`), the training (`fit`), and a folder that can be published
(`save`, `write_record`). No library is loaded before one of them is called, so that ``--help`` waits for none.
"""

from meadow.train.commandline import command as command
from meadow.train.commandline import parse as parse
from meadow.train.data import load_rows as load_rows
from meadow.train.folder import NotFiniteError as NotFiniteError
from meadow.train.folder import TrainingError as TrainingError
from meadow.train.folder import output_folder as output_folder
from meadow.train.memory import forecast as forecast
from meadow.train.merging import MergeError as MergeError
from meadow.train.merging import merge as merge
from meadow.train.model import add_adapters as add_adapters
from meadow.train.model import choose_device as choose_device
from meadow.train.model import open_base as open_base
from meadow.train.model import open_model as open_model
from meadow.train.packing import plan_steps as plan_steps
from meadow.train.reading import DataError as DataError
from meadow.train.record import save as save
from meadow.train.record import write_record as write_record
from meadow.train.record import write_settings as write_settings
from meadow.train.settings import TrainSettings as TrainSettings
from meadow.train.settings import TrainSettingsError as TrainSettingsError
from meadow.train.training import find_beginning as find_beginning
from meadow.train.training import fit as fit
