"""Draw, staged verification: its tables in, figures as Vega-Lite specifications out."""

import json
from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import atomic, read_table
from vegflow.report.staged_figures import staged_figures
from vegflow.stage import run


def main(args: Namespace) -> None:
    tables = {Path(path).stem: read_table(path, FRONTIER_TABLES[Path(path).stem]) for path in args.tables}
    drawn = staged_figures(tables, args.options["names"])
    for path in args.outputs:
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(drawn[Path(path).stem], indent=1))


if __name__ == "__main__":
    run(main, required=("options",), many=("tables", "outputs"))
