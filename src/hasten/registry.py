"""Names to code: one line a pass, an engine, a metric. Plug-ins join through entry points of the same group names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from hasten.errors import UsageError, did_you_mean

PASSES = {
    "clean": "hasten.passes.clean:Clean",
    "correct": "hasten.passes.correct:Correct",
    "distill": "hasten.passes.distill:Distill",
    "equalize": "hasten.passes.equalize:Equalize",
    "factorize": "hasten.passes.factorize:Factorize",
    "join": "hasten.passes.join:Join",
    "prune": "hasten.passes.prune:Prune",
    "quantize": "hasten.passes.quantize:Quantize",
    "quantize_dynamic": "hasten.passes.dynamic:QuantizeDynamic",
    "quantize_hybrid": "hasten.passes.hybrid:QuantizeHybrid",
    "quantize_weights": "hasten.passes.quantize_weights:QuantizeWeights",
    "round_weights": "hasten.passes.round_weights:RoundWeights",
    "scale_inputs": "hasten.passes.scale_inputs:ScaleInputs",
    "smooth": "hasten.passes.smooth:Smooth",
    "sparsify": "hasten.passes.sparsify:Sparsify",
    "specialise": "hasten.passes.specialise:Specialise",
}

ENGINES = {
    "onnxruntime": "hasten.engines.onnxruntime",
    "openvino": "hasten.engines.openvino",
    "litert": "hasten.engines.litert",
    "torch": "hasten.engines.torch",
    "keras": "hasten.engines.keras",
    "tensorflow": "hasten.engines.tensorflow",
}

METRICS = {
    "top1": "hasten.metrics:TOP1",
    "top5": "hasten.metrics:TOP5",
    "f1": "hasten.metrics:F1",
    "auc": "hasten.metrics:AUC",
    "mae": "hasten.metrics:MAE",
    "mse": "hasten.metrics:MSE",
    "iou": "hasten.metrics:IOU",
    "ctc_exact": "hasten.metrics:CTC_EXACT",
    "ctc_cer": "hasten.metrics:CTC_CER",
    "cosine": "hasten.metrics:COSINE",
    "agreement": "hasten.metrics:AGREEMENT",
    "fidelity": "hasten.metrics.fidelity:FIDELITY",
    "balanced_accuracy": "hasten.metrics.balanced:BALANCED_ACCURACY",
    "precision": "hasten.metrics.binary:PRECISION",
    "recall": "hasten.metrics.binary:RECALL",
    "specificity": "hasten.metrics.binary:SPECIFICITY",
    "f1_binary": "hasten.metrics.binary:F1_BINARY",
    "f1_micro": "hasten.metrics.multilabel:F1_MICRO",
    "f1_multilabel": "hasten.metrics.multilabel:F1_MULTILABEL",
    "accuracy_multilabel": "hasten.metrics.multilabel:ACCURACY_MULTILABEL",
    "exact_multilabel": "hasten.metrics.multilabel:EXACT_MULTILABEL",
    "sensitivity_at_specificity_90": "hasten.metrics.curves:SENSITIVITY_AT_90",
    "sensitivity_at_specificity_95": "hasten.metrics.curves:SENSITIVITY_AT_95",
    "sensitivity_at_specificity_99": "hasten.metrics.curves:SENSITIVITY_AT_99",
    "ap": "hasten.metrics.curves:AP",
    "ap_macro": "hasten.metrics.curves:AP_MACRO",
    "ap_pooled": "hasten.metrics.curves:AP_POOLED",
    "ap_sample": "hasten.metrics.curves:AP_SAMPLE",
    "auc_pooled": "hasten.metrics.curves:AUC_POOLED",
    "auc_sample": "hasten.metrics.curves:AUC_SAMPLE",
    "map": "hasten.metrics.boxes:MAP",
    "box_recall": "hasten.metrics.boxes:BOX_RECALL",
    "auc_macro": "hasten.metrics.curves:AUC_MACRO",
    "dice": "hasten.metrics.dense:DICE",
    "dice_pooled": "hasten.metrics.dense:DICE_POOLED",
    "miou": "hasten.metrics.dense:MIOU",
    "miou_sample": "hasten.metrics.dense:MIOU_SAMPLE",
    "pixel_f1": "hasten.metrics.dense:PIXEL_F1",
    "rmse": "hasten.metrics.numbers:RMSE",
    "r2": "hasten.metrics.numbers:R2",
    "mape": "hasten.metrics.numbers:MAPE",
    "pearson": "hasten.metrics.numbers:PEARSON",
    "quantile_10": "hasten.metrics.numbers:QUANTILE_10",
    "quantile_50": "hasten.metrics.numbers:QUANTILE_50",
    "quantile_90": "hasten.metrics.numbers:QUANTILE_90",
    "cosine_labels": "hasten.metrics.values:COSINE_LABELS",
    "token_accuracy": "hasten.metrics.sequences:TOKEN_ACCURACY",
    "cer": "hasten.metrics.sequences:CER",
    "wer": "hasten.metrics.sequences:WER",
    "recall_at_1": "hasten.metrics.retrieval:RECALL_AT_1",
    "recall_at_5": "hasten.metrics.retrieval:RECALL_AT_5",
    "recall_at_10": "hasten.metrics.retrieval:RECALL_AT_10",
    "mrr": "hasten.metrics.retrieval:MRR",
    "ndcg": "hasten.metrics.retrieval:NDCG",
    "ndcg_10": "hasten.metrics.retrieval:NDCG_10",
}

SYNONYMS = {  # of metrics: the names that people use for each
    "top1": "accuracy acc accuracy_score top1_accuracy",
    "top5": "top_5 top5_accuracy",
    "f1": "f1_macro macro_f1 f1_score fscore",
    "f1_binary": "binary_f1",
    "f1_micro": "micro_f1",
    "balanced_accuracy": "balanced_acc bal_acc bacc uar recall_macro macro_recall balanced_accuracy_score",
    "precision": "ppv positive_predictive_value precision_score",
    "recall": "sensitivity tpr true_positive_rate hit_rate recall_score",
    "specificity": "tnr true_negative_rate",
    "auc": "roc_auc auroc roc area_under_roc roc_auc_score",
    "auc_macro": "auc_multilabel roc_auc_macro roc_auc_ovr auc_ovr",
    "ap": "average_precision pr_auc auprc aucpr average_precision_score",
    "ap_macro": "ap_multilabel average_precision_macro map_multilabel",
    "sensitivity_at_specificity_95": "sensitivity_at_specificity recall_at_specificity sensitivity_at_95 tpr_at_fpr_05",
    "sensitivity_at_specificity_90": "sensitivity_at_90 tpr_at_fpr_10",
    "sensitivity_at_specificity_99": "sensitivity_at_99 tpr_at_fpr_01",
    "map": "map_50_95 map@[.5:.95] coco_map mean_average_precision",
    "box_recall": "average_recall ar recall_boxes",
    "auc_pooled": "pixel_auc dense_auc auc_pixel",
    "ap_pooled": "pixel_ap dense_ap ap_pixel",
    "accuracy_multilabel": "hamming hamming_accuracy multilabel_accuracy label_accuracy",
    "exact_multilabel": "subset_accuracy exact_match exact_match_ratio",
    "f1_multilabel": "multilabel_f1",
    "dice": "dice_coefficient dice_score dsc",
    "dice_pooled": "dice_global global_dice",
    "iou": "jaccard jaccard_index intersection_over_union",
    "miou": "mean_iou m_iou mean_jaccard",
    "pixel_f1": "f1_pixel dense_f1",
    "mae": "mean_absolute_error l1",
    "mse": "mean_squared_error l2",
    "rmse": "root_mean_squared_error rms rmsd",
    "r2": "r2_score r_squared r^2 rsquared coefficient_of_determination",
    "mape": "mean_absolute_percentage_error",
    "pearson": "correlation corr pcc pearsonr pearson_r",
    "quantile_50": "quantile pinball pinball_loss quantile_loss",
    "quantile_10": "pinball_10 q10",
    "quantile_90": "pinball_90 q90",
    "cosine": "cosine_similarity cos_sim",
    "cer": "character_error_rate token_error_rate",
    "wer": "word_error_rate",
    "ctc_cer": "cer_ctc",
    "token_accuracy": "token_acc masked_accuracy",
    "recall_at_1": "recall@1 r@1 hit@1",
    "recall_at_5": "recall@5 r@5 hit@5",
    "recall_at_10": "recall@10 r@10 hit@10",
    "mrr": "mean_reciprocal_rank",
    "ndcg": "ndcg_score",
    "ndcg_10": "ndcg@10 ndcg_at_10",
    "agreement": "agree",
}

FRONTENDS = {
    "onnx": "hasten.frontends.onnx",
    "tflite": "hasten.frontends.tflite",
    "torch": "hasten.frontends.torch",
    "keras": "hasten.frontends.keras",
    "tensorflow": "hasten.frontends.tensorflow",
}

ONE = {"passes": "pass", "engines": "engine", "metrics": "metric", "frontends": "front end"}
_TABLES = {"passes": PASSES, "engines": ENGINES, "metrics": METRICS, "frontends": FRONTENDS}


@cache
def names(group: str) -> dict[str, str]:
    """The built-in table of ``group`` ("passes", "engines", "metrics", "frontends") with plug-ins added."""
    plugins = {e.name: e.value for e in entry_points(group=f"hasten.{group}")}
    return {**plugins, **_TABLES[group]}


def canonical(group: str, name: str) -> str:
    """The name under which ``group`` lists a metric that people call otherwise; other names come back as they are.

    Case, spaces and hyphens make no difference to a synonym, nor does a plug-in lose its own name to one.
    """
    if group != "metrics" or name in names(group):
        return name
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    if plain in names(group):
        return plain
    return next((own for own, others in SYNONYMS.items() if plain in others.split()), name)


def require(group: str, name: str) -> None:
    """Refuse a name that nothing has; a dotted path is imported later, when it is used.

    Raises:
        UsageError: nothing has that name; the nearest one is suggested.
    """
    if not {":", "."} & set(name) and canonical(group, name) not in names(group):
        raise UsageError(f"no {ONE[group]} is called {name!r}", help=_near(group, name))


def _near(group: str, name: str) -> str:
    """The nearest listed name, by way of the synonyms, and all that are listed."""
    others = [word for words in SYNONYMS.values() for word in words.split()] if group == "metrics" else []
    plain = name.strip().lower()
    close = get_close_matches(plain, [*names(group), *others], n=1, cutoff=0.5)
    if not close or close[0] in names(group):
        return did_you_mean(name, names(group))
    known = ", ".join(sorted(names(group)))
    return f"did you mean {close[0]!r} ({canonical(group, close[0])})? known: {known}"


def several(group: str, given: str | Iterable[str] | None) -> list[str] | None:
    """Names as people write them: one, several with commas between them, or a list. None and nothing mean all.

    Raises:
        UsageError: one of them is no text, or a name that nothing has.
    """
    try:
        parts = [given] if isinstance(given, str) else list(given or ())
    except TypeError:
        parts = [given]  # type: ignore[list-item]
    if wrong := [part for part in parts if not isinstance(part, str)]:
        known = ", ".join(names(group))
        raise UsageError(f"a name of {group} cannot be {wrong[0]!r}", help=f"give text; known: {known}")
    found = [name.strip() for part in parts for name in part.split(",") if name.strip()]
    for name in found:
        require(group, name)
    return found or None


@cache
def find(group: str, name: str) -> Any:
    """The object behind a name, or behind a dotted path such as ``mypackage.myengine`` or ``mypackage.passes:Mine``.

    Raises:
        UsageError: nothing has that name; the nearest one is suggested.
    """
    table, name = names(group), canonical(group, name)
    if name not in table and "." in name:
        table = {**table, name: name}
    if name not in table:
        raise UsageError(f"no {ONE[group]} is called {name!r}", help=_near(group, name))
    module, _, attribute = table[name].partition(":")
    try:
        found = import_module(module)
        return getattr(found, attribute) if attribute else found
    except Exception as fault:  # a plug-in raises whatever it likes
        cause = str(fault) if isinstance(fault, ModuleNotFoundError) else f"{type(fault).__name__}: {fault}"
        help_ = "check its spelling and that its package is installed in this environment"
        raise UsageError(f"{ONE[group]} {name!r} cannot be imported", cause=cause[:300], help=help_) from fault


def engine(name: str) -> tuple[Any, str | None]:
    """An engine, and why it cannot be used here; a broken package or plug-in is such a reason, and never a fault.

    Raises:
        UsageError: nothing has that name.
    """
    try:
        found = find("engines", name)
        return found, found.missing()
    except Exception as fault:
        if name not in names("engines"):
            raise
        said = fault.cause if isinstance(fault, UsageError) else f"{type(fault).__name__}: {fault}"
        return None, f"broken: {' '.join(said.split())[:200]}"


def probe(name: str) -> dict[str, Any]:
    """What ``doctor`` says of an engine; asked for in a process of its own, since some imports end it."""
    found, reason = engine(name)
    told = (
        {"version": None, "formats": []} if reason else {"version": found.version(), "formats": sorted(found.formats())}
    )
    return {"name": name, **told, "missing": reason}
