"""Saved views of an MLflow experiment: what its menu *Views* offers, and what a link can open.

MLflow keeps a view as a tag of the experiment, in the form that its user interface writes (3.17). A version
that reads another form ignores it: the same is then a few clicks (docs/mlflow.md). Whether it shows charts or
the table is no part of a view, but of the link (`compareRunsMode=CHART`).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TAG_PREFIX = "mlflow.sharedViewState."
_MEANS = "synthgain-means"
MEANS_QUERY = f"workflowType=machine_learning&viewStateShareKey={_MEANS}"  # the part of a link that opens it
MEANS_TAG = TAG_PREFIX + _MEANS  # there once a study has ended
_RATIO, _GANS = "synthgain-ratio", "synthgain-gans"
RATIO_QUERY = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={_RATIO}"
GANS_QUERY = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={_GANS}"
_SECTION = "synthgain"


@dataclass(frozen=True)
class View:
    """A saved view.

    Attributes:
        key: names it in links.
        name: names it in the menu.
        state: what the user interface restores.
    """

    key: str
    name: str
    state: Mapping[str, Any]

    def encoded_state(self) -> str:
        """The state as MLflow writes it."""
        return "deflate;" + base64.b64encode(zlib.compress(json.dumps(self.state).encode())).decode()


def saved_views(cells: Sequence[Mapping[str, str]], metric: str) -> list[View]:
    """Means by arm and ratio (table), the metric that decides against ratio and the GANs' curves (charts).

    Args:
        cells: the params of the cells: arm, synthetic_per_real, real_images.
        metric: of the study.
    """
    gans = View(
        _GANS,
        "SynthGain: curves of the GANs",
        _state(
            kind="gan",
            group_by=("real_images", "replicate"),
            columns=("fid", "kid", "label_fidelity", "coverage"),
            charts=[["d_loss", "g_loss"], ["d_real", "d_fake"], ["label_fidelity_1nn"]],
        ),
    )
    if not cells:  # of a study that has not ended
        return [gans]
    shown = [f"test_{metric}", "test_accuracy" if metric == "macro_f1" else "test_macro_f1"]
    group_by = ["arm", "synthetic_per_real"]
    if len({cell["real_images"] for cell in cells}) > 1:
        group_by.insert(0, "real_images")
    return [
        View(
            _MEANS,
            "SynthGain: means by arm and ratio",
            _state(
                kind="cell",
                group_by=group_by,
                folded=[[cell[name] for name in group_by] for cell in cells],
                columns=tuple(
                    dict.fromkeys(
                        (f"test_{metric}", "test_accuracy", "test_macro_f1", "fid", f"validation_{metric}")
                    )
                ),
            ),
        ),
        View(
            _RATIO,
            f"SynthGain: {metric.replace('_', ' ')} against ratio (%)",
            _state(
                kind="curve",
                # Far below the others, it would flatten them.
                where=" and params.arm != 'synthetic_only'",
                columns=(shown[0], f"{shown[0]}_low", f"{shown[0]}_high", shown[1]),
                charts=[[shown[0]], [shown[1]], [f"{shown[0]}_low"], [f"{shown[0]}_high"]],
            ),
        ),
        gans,
    ]


def _state(
    *,
    kind: str,
    where: str = "",
    group_by: Sequence[str] = (),
    folded: Sequence[Sequence[str]] = (),
    columns: Sequence[str] = (),
    charts: Sequence[list[str]] = (),
) -> dict[str, Any]:
    """What the interface restores: runs of a kind, grouped by params, groups of some values folded."""
    name = "attributes.`Run Name`"
    shown = [f"metrics.`{metric}`" for metric in columns]
    groups = (zip(group_by, values, strict=True) for values in folded)
    state: dict[str, Any] = {
        "searchFilter": f"tags.kind = '{kind}'{where}",
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": shown,
        "columnOrder": [name, *shown],
        "columnWidths": {name: 420, **dict.fromkeys(shown, 220)},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupsExpanded": {
            ",".join(f"param.{key}.{value}" for key, value in group): False for group in groups
        },
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "groupBy": None,
    }
    if group_by:
        keys = [{"mode": "param", "groupByData": name} for name in group_by]
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": keys}
    if charts:
        state["compareRunSections"] = [
            {
                "uuid": _SECTION,
                "name": "SynthGain",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ]
        state["compareRunCharts"] = [_line_chart(metrics) for metrics in charts]
    return state


def _line_chart(metrics: list[str]) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION}-{metrics[0]}",
        "type": "LINE",
        "runsCountToCompare": 30,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metrics[0],
        "selectedMetricKeys": metrics,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
