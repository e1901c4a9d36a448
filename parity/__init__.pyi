from . import audit as audit
from .checking import check as check
from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .evaluation_mode import in_eval_mode as in_eval_mode
from .problem import Problem as Problem
from .torch_tools import Task as Task
