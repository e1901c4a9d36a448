from .own_function import Report as Report
from .own_function import check as check
