from .checking import check as check
from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .problem import Problem as Problem
from .problem import in_eval_mode as in_eval_mode
from .torch_tools import Task as Task
