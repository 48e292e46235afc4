"""How good the answers are: the built-in metrics, and the reader of a user's own."""

from hasten.metrics.auto import auto_metric
from hasten.metrics.classes import Agreement, TopK
from hasten.metrics.corpus import Auc, MacroF1
from hasten.metrics.ctc import CtcCer, CtcExact
from hasten.metrics.resolve import resolve, validate
from hasten.metrics.values import Cosine, ErrorMean, Iou

TOP1 = TopK()
TOP5 = TopK(name="top5", k=5)
F1 = MacroF1()
AUC = Auc()
MAE = ErrorMean()
MSE = ErrorMean(name="mse", power=2)
IOU = Iou()
CTC_EXACT = CtcExact()
CTC_CER = CtcCer()
COSINE = Cosine()
AGREEMENT = Agreement()

__all__ = [
    "AGREEMENT", "AUC", "COSINE", "CTC_CER", "CTC_EXACT", "F1", "IOU", "MAE", "MSE", "TOP1", "TOP5", "Agreement", "Auc",
    "Cosine", "CtcCer", "CtcExact", "ErrorMean", "Iou", "MacroF1", "TopK", "auto_metric", "resolve", "validate",
]  # fmt: skip
