# pyarrow makes its compute functions when it is imported, so that none is seen in its files.
from typing import Any

def __getattr__(name: str) -> Any: ...
