"""A loopback server that answers as MAST does, from made rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hstmap.archive.offline.conditions import (
    SkyPoint,
    matching_observations,
    matching_rows,
    within,
)
from hstmap.archive.offline.rows import MadeArchive, Rows

__all__ = ["Answer", "MastServer", "Question"]

_TYPES = {str: "VARCHAR", int: "INTEGER", float: "FLOAT"}


@dataclass(frozen=True)
class Question:
    """A request as the server understood it.

    Parameters
    ----------
    kind : str
        ``'search'``, ``'observations'``, ``'products'``, ``'resolve'``, ``'columns'``,
        ``'config'`` or ``'paths'``.
    page : int
        Number of the page that is asked for, from 0; 0 where there are no pages.
    detail : dict
        What was posted.
    """

    kind: str
    page: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What is sent back: the body may be shorter than its announced length."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced_nbytes: int | None = None


class MastServer:
    """MAST's search service and portal over a made archive, on the loopback interface.

    Parameters
    ----------
    archive : MadeArchive
        What is served.
    meddle : callable, optional
        Called with every question and the honest answer; what it returns is sent instead.
        Tests script faults with it.

    Attributes
    ----------
    url : str
        Where it listens, once entered.
    questions : list of Question
        Everything that was asked, in order of arrival.
    """

    def __init__(
        self,
        archive: MadeArchive,
        meddle: Callable[[Question, Answer], Answer] | None = None,
    ) -> None:
        self.archive = archive
        self.meddle = meddle
        self.questions: list[Question] = []
        self._chosen: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> MastServer:
        self._http = _HttpServer(("127.0.0.1", 0), _Handler)
        self._http.mast = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes) -> Answer:
        """Return the answer to one request."""
        question = _understand(path, body)
        with self._lock:
            self.questions.append(question)
        honest = self.honest_answer(question)
        return self.meddle(question, honest) if self.meddle else honest

    def honest_answer(self, question: Question) -> Answer:
        """Return the answer without any fault.

        Parameters
        ----------
        question : Question
            What is asked.
        """
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "search": self._search,
            "columns": self._columns,
            "observations": self._observations,
            "products": self._products,
            "resolve": self._resolve,
            "config": lambda _: self._column_config,
            "paths": self._paths,
        }
        if question.kind not in answers:
            return Answer(b"no such service", 404)
        body = json.dumps(answers[question.kind](question.detail)).encode()
        return Answer(body, 200, {"Content-Type": "application/json"})

    def _columns(self, _: dict[str, Any]) -> list[dict[str, str]]:
        names = [*self.archive.exposures, "search_key", "search_pos", "ang_sep"]
        return [{"column_name": n, "qual_type": "string", "description": n} for n in names]

    def _search(self, detail: dict[str, Any]) -> dict[str, Any]:
        rows = self.archive.exposures
        names = [str(name) for name in detail["select_cols"]]
        unknown = [name for name in names if name not in rows]
        if unknown:
            raise KeyError(f"no such columns: {unknown}")
        chosen = self._choose(
            json.dumps([detail["conditions"], detail.get("target"), detail.get("radius")]),
            lambda: self._chosen_exposures(detail),
        )
        first, limit = int(detail["offset"]), int(detail["limit"])
        page = chosen[first : first + limit]
        return {
            "messages": [],
            "info": [{"name": name, "type": _type_of(rows[name])} for name in names],
            "search_params": detail,
            "totalResults": len(chosen),
            "results": [{name: rows[name][row] for name in names} for row in page],
        }

    def _chosen_exposures(self, detail: dict[str, Any]) -> list[int]:
        rows = self.archive.exposures
        chosen = matching_rows(rows, detail["conditions"])
        for target in detail.get("target", [])[:1]:
            centre = SkyPoint(*map(float, target.split()))
            radius_deg = float(detail["radius"]) / 3600
            ra, dec = rows["sci_ra"], rows["sci_dec"]
            chosen = [k for k in chosen if within(ra[k], dec[k], centre, radius_deg)]
        return chosen

    def _observations(self, detail: dict[str, Any]) -> dict[str, Any]:
        rows = self.archive.observations
        params = detail["params"]
        chosen = self._choose(
            json.dumps([params["filters"], params.get("position")]),
            lambda: self._chosen_observations(params),
        )
        if params["columns"] == "COUNT_BIG(*)":
            return _portal_answer(
                {"Column1": [len(chosen)]}, [0], {"page": 1, "pagesize": 50000}, 1
            )
        names = list(rows)
        if params["columns"] != "*":
            names = [name.strip() for name in params["columns"].split(",")]
        size, number = int(detail["pagesize"]), int(detail["page"])
        page = chosen[(number - 1) * size : number * size]
        return _portal_answer({n: rows[n] for n in names}, page, detail, len(chosen))

    def _chosen_observations(self, params: dict[str, Any]) -> list[int]:
        rows = self.archive.observations
        chosen = matching_observations(rows, params["filters"])
        if params.get("position"):
            *centre, radius_deg = map(float, params["position"].split(","))
            ra, dec = rows["s_ra"], rows["s_dec"]
            chosen = [k for k in chosen if within(ra[k], dec[k], SkyPoint(*centre), radius_deg)]
        return chosen

    def _choose(self, key: str, choose: Callable[[], list[int]]) -> list[int]:
        with self._lock:
            if key not in self._chosen:
                self._chosen[key] = choose()
            return self._chosen[key]

    def _products(self, detail: dict[str, Any]) -> dict[str, Any]:
        groups = list(self.archive.members.items())
        names = self.archive.exposures["sci_data_set_name"]
        rows: Rows = {name: [] for name in _PRODUCT_COLUMNS}
        for obsid in detail["params"]["obsid"].split(","):
            group, members = groups[int(obsid) - int(self.archive.observations["obsid"][0])]
            files = [(names[row].lower(), kind) for row in members for kind in ("flt", "ima")]
            for root, kind in [*files, (group.lower(), "drz")]:
                name = f"{root}_{kind}.fits"
                values: list[Any] = [int(obsid), "HST", root, "S", f"mast:HST/product/{name}"]
                values += ["SCIENCE", kind.upper(), name, 16534080]
                for column, value in zip(_PRODUCT_COLUMNS, values, strict=True):
                    rows[column].append(value)
        n = len(rows["obsID"])
        return _portal_answer(rows, list(range(n)), {"page": 1, "pagesize": 50000}, n)

    def _resolve(self, detail: dict[str, Any]) -> dict[str, Any]:
        rows = self.archive.exposures
        name = detail["params"]["input"]
        found = []
        for target, ra, dec in zip(
            rows["sci_targname"], rows["sci_ra"], rows["sci_dec"], strict=True
        ):
            if target == name.upper() and ra is not None:
                found = [{"searchString": name.lower(), "ra": ra, "decl": dec, "resolver": "NED"}]
                break
        return {"resolvedCoordinate": found, "status": ""}

    def _paths(self, detail: dict[str, Any]) -> dict[str, Any]:
        paths = {}
        for uri in detail["uri"]:
            name = uri.rpartition("/")[2]
            root = name.partition("_")[0]
            path = f"/hst/public/{root[:4]}/{root}/{name}"
            paths[uri] = {"status_code": 200, "path": path}
        return paths

    @cached_property
    def _column_config(self) -> dict[str, Any]:
        datatypes = {"INTEGER": "long", "FLOAT": "double", "VARCHAR": "char"}
        return {
            name: {"text": name, "vot.datatype": datatypes[_type_of(values)]}
            for name, values in self.archive.observations.items()
            if name != "_selected_"
        }


_PRODUCT_COLUMNS = (
    "obsID",
    "obs_collection",
    "obs_id",
    "type",
    "dataURI",
    "productType",
    "productSubGroupDescription",
    "productFilename",
    "size",
)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    mast: MastServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: giving up on a slow page is one of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_GET(self) -> None:
        self._reply(b"")

    def do_POST(self) -> None:
        self._reply(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _reply(self, body: bytes) -> None:
        try:
            answer = self.server.mast.answer(self.path, body)
        except (KeyError, ValueError) as error:
            # MAST answers so to a column or a value that it does not know.
            answer = Answer(str(error).encode(), 500)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        nbytes = len(answer.body) if answer.announced_nbytes is None else answer.announced_nbytes
        self.send_header("Content-Length", str(nbytes))
        self.end_headers()
        self.wfile.write(answer.body)
        if nbytes != len(answer.body):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _understand(path: str, body: bytes) -> Question:
    path, query = urlsplit(path).path, urlsplit(path).query
    if path == "/search/hst/api/v0.1/search":
        detail = json.loads(body)
        return Question("search", int(detail["offset"]) // int(detail["limit"]), detail)
    if path == "/search/util/api/v0.1/column_list":
        return Question("columns")
    if path == "/api/v0.1/path_lookup/":
        return Question("paths", detail=parse_qs(query))
    if path == "/portal/Mashup/Mashup.asmx/columnsconfig":
        return Question("config")
    if path == "/api/v0/invoke":
        detail = json.loads(parse_qs(body.decode())["request"][0])
        kinds = {
            "Mast.Caom.Filtered": "observations",
            "Mast.Caom.Filtered.Position": "observations",
            "Mast.Caom.Products": "products",
            "Mast.Name.Lookup": "resolve",
        }
        kind = kinds.get(detail["service"], "unknown")
        return Question(kind, int(detail.get("page", 1)) - 1, detail)
    return Question("unknown")


def _portal_answer(
    rows: Rows, numbers: list[int], request: dict[str, Any], n_total: int
) -> dict[str, Any]:
    size = int(request["pagesize"])
    types = {"VARCHAR": "string", "INTEGER": "int", "FLOAT": "float"}
    return {
        "status": "COMPLETE",
        "msg": "",
        "data": [{name: values[row] for name, values in rows.items()} for row in numbers],
        "fields": [
            # The portal calls its identifiers text, though its JSON holds them as numbers.
            {"name": n, "type": "string" if n in ("obsid", "obsID") else types[_type_of(v)]}
            for n, v in rows.items()
        ],
        "paging": {
            "page": int(request["page"]),
            "pageSize": size,
            "pagesFiltered": max(1, -(-n_total // size)),
            "rows": len(numbers),
            "rowsFiltered": n_total,
            "rowsTotal": n_total,
        },
    }


def _type_of(values: list[Any]) -> str:
    known = next((value for value in values if value is not None), "")
    return _TYPES.get(type(known), "VARCHAR")
