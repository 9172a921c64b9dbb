"""Draw: analysis tables in, figures as Vega-Lite specifications out."""

import json
from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.io import atomic, read_table
from vegflow.config.analysis import StudyFacts
from vegflow.report.figures import figures
from vegflow.stage import run


def main(args: Namespace) -> None:
    tables = {Path(path).stem: read_table(path, ANALYSIS_TABLES[Path(path).stem]) for path in args.tables}
    drawn = figures(tables, StudyFacts(**args.options))
    for path in args.outputs:
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(drawn[Path(path).stem], indent=1))


if __name__ == "__main__":
    run(main, required=("options",), many=("tables", "outputs"))
