"""The Python API of the ``any2all`` commands: complete a patient, train, fill a cohort."""

from any2all_app.completion import Completer
from any2all_app.filling import Filling, fill
from any2all_app.finding import Preparing, find_patients
from any2all_app.fitting import Fitting, fit
from any2all_app.model_card import Publication
from any2all_app.named_prior import NamedMethod, NamedPrior
from any2all_app.observer import Observer
from any2all_app.one_call import complete
from any2all_app.planning import plan
from any2all_app.preparing import prepare
from any2all_app.pushing import push
from any2all_app.report_format import Report
from any2all_app.results import Completion, NewPeople
from any2all_app.training import Training, train
from any2all_app.virtual_people import prepare_virtual

__version__ = "0.1.0"

__all__ = [
    "Completer",
    "Completion",
    "Filling",
    "Fitting",
    "NamedMethod",
    "NamedPrior",
    "NewPeople",
    "Observer",
    "Preparing",
    "Publication",
    "Report",
    "Training",
    "complete",
    "fill",
    "find_patients",
    "fit",
    "plan",
    "prepare",
    "prepare_virtual",
    "push",
    "train",
]
