"""The view of facts of a dataset, section by section, and what must be known before it is used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meadow.describe.cards.markdown import hexadecimal, size
from meadow.describe.diff import Difference
from meadow.describe.report import svg
from meadow.describe.report.gather import Facts, Member
from meadow.describe.report.html import Html, count, cut, here, items, join, link, table, tag, terms, text
from meadow.describe.shim import license_ids, row_count

__all__ = ["dataset_view", "left_out", "row_count", "warnings"]

#: Longest lists that a page shows; the rest is in the files.
_REASONS, _SITES, _RAW, _PAIRS, _OPEN = 60, 25, 300, 40, 12
_PERCENTILES = ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max", "mean")
_STAGES = {
    "source": "Source",
    "quality": "Quality",
    "language": "Language",
    "license": "Licence",
    "privacy": "Privacy",
    "contamination": "Contamination",
    "duplicates": "Duplicates",
    # Those of mixtures.
    "conditions": "Conditions",
    "sampling": "Sampling",
    "groups": "Groups",
}
#: What a dataset that a check did not see is said to be, by the check's key in its manifest.
_NOT_DONE = {
    "contamination": "Not checked against exams",
    "privacy": "Not screened for private details",
    "duplicates": "Not searched for duplicates",
}


def left_out(manifest: Mapping[str, Any]) -> int:
    """Rows read that were not kept."""
    return manifest["funnel"]["read"] - manifest["funnel"]["kept"]


def warnings(facts: Facts) -> list[str]:
    """What somebody must know before they use a dataset, the gravest first."""
    m = facts.manifest
    found = []
    funnel = m["funnel"]
    if m.get("sample"):
        found.append("Built from the embedded sample: small texts written for tests, not the real data.")
    if m.get("test_only"):
        found.append("An exam: for scoring models, never for training them.")
    if funnel["read"] != funnel["kept"] + sum((funnel.get("dropped") or {}).values()):
        found.append("The funnel does not balance: rows read are not rows kept and left out together.")
    if m.get("mixture"):
        found += _part_warnings(m["mixture"])
    else:
        if not m.get("test_only"):
            found += _exam_warnings(m)
        found += _screen_warnings(m)
    found += _license_warnings(m)
    return [*found, *facts.problems]


def _part_warnings(mixture: object) -> list[str]:
    """What the builds of a mixture's parts left open: a mixture is drawn from them, not checked again."""
    parts = mixture.get("parts") if isinstance(mixture, dict) else None
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    about: dict[str, list[str]] = {}
    if isinstance(mixture, dict) and isinstance(mixture.get("exam_rows"), dict):
        for name, rows in mixture["exam_rows"].items():
            about.setdefault("Rows that hold exam items were flagged and are in it", []).append(
                f"{rows} of {name}"
            )
    for part in parts:
        name = str(part.get("dataset") or "a part without a name")
        for key, none in _NOT_DONE.items():
            check = part.get(key)
            if not isinstance(check, dict) or check.get("policy") in (None, "off"):
                about.setdefault(none, []).append(name)
            for why in check.get("unchecked") or () if isinstance(check, dict) else ():
                about.setdefault(f"Not checked against an exam: {why}", []).append(name)
    return [f"{words} ({', '.join(dict.fromkeys(names))})." for words, names in about.items()]


def _exam_warnings(m: Mapping[str, Any]) -> list[str]:
    report = m.get("contamination")
    if not report or report.get("policy") == "off":
        return ["Not checked against exams."]
    found = [f"Not checked against an exam: {why}" for why in report.get("unchecked") or ()]
    samples = sorted({e["exam"] for e in report.get("exams") or () if e.get("sample")})
    if samples:
        found.append(f"Checked against samples of exams only, not the real ones: {', '.join(samples)}.")
    hit = sum(e.get("rows_hit", 0) for e in report.get("exams") or ())
    if hit and report.get("policy") == "flag":
        found.append("Rows that hold exam items were flagged and are still in it.")
    return found


def _screen_warnings(m: Mapping[str, Any]) -> list[str]:
    found = []
    private, duplicates = m.get("privacy"), m.get("duplicates")
    if not private or private.get("policy") == "off":
        found.append("Not screened for private details.")
    elif private.get("policy") == "flag" and private.get("rows"):
        found.append("Details that may be private were flagged and are still in it.")
    if m.get("test_only"):
        pass  # exams stay as they were published
    elif not duplicates or duplicates.get("policy") == "off":
        found.append("Not searched for duplicates.")
    elif duplicates.get("policy") == "flag" and duplicates.get("clusters"):
        found.append("Duplicates were flagged and are still in it.")
    return found


def _license_warnings(m: Mapping[str, Any]) -> list[str]:
    every = m.get("license_terms") or {}
    unsettled = [spdx for spdx in license_ids(m) if not _settled(spdx, every.get(spdx) or {})]
    written = [spdx for spdx in license_ids(m) if (every.get(spdx) or {}).get("output_terms")]
    found = [f"Unsettled licence: {', '.join(unsettled)}."] if unsettled else []
    if written:
        found.append(f"Written by a model whose terms may bind: {', '.join(written)}.")
    return found


def _settled(spdx: str, term: Mapping[str, Any]) -> bool:
    # Older manifests do not say; there a LicenseRef- was what SPDX has no word for.
    return term["settled"] is True if "settled" in term else not spdx.startswith("LicenseRef-")


def dataset_view(facts: Facts, identity: str) -> Html:
    """All facts of a dataset."""
    m = facts.manifest
    sections = [
        ("splits", "Splits", _splits(m)),
        ("funnel", "What was left out", _funnel(facts, f"{identity}-f")),
        ("lengths", "Lengths", _lengths(m, f"{identity}-l")),
        ("languages", "Languages and notes", _languages(m)),
        ("sources", "Sources", _sources(facts)),
        ("mixture", "Mixture", _mixture(m)),
        ("licences", "Licences", _licences(facts)),
        ("duplicates", "Duplicates", _duplicates(facts)),
        ("contamination", "Contamination by exams", _contamination(facts)),
        ("privacy", "Private details", _privacy(m)),
        ("versions", "Versions", _versions(facts)),
        ("raw", "Raw files and checksums", _raw(m)),
    ]
    # What was done to the rows of a mixture, its parts say.
    of_parts = {key for key in _NOT_DONE if m.get("mixture") and not m.get(key)}
    sections = [section for section in sections if section[2] and section[0] not in of_parts]
    tabs = (
        tag("a", "Facts", href=f"#{identity}", aria_current="page"),
        here("Random rows", f"{identity}-rows"),
    )
    parts = (here(title, f"{identity}-{key}") for key, title, _ in sections)
    tiles = [
        ("Rows", count(row_count(m))),
        ("Read", count(m["funnel"]["read"])),
        ("Left out", count(left_out(m))),
        ("Version", m["version"]),
        ("Task", str(m.get("task") or "-").replace("-", " ")),
        ("Built from", "sample" if m.get("sample") else "raw files"),
    ]
    lead = join(
        (m.get("description") or "", " ", link("Homepage", m["homepage"]) if m.get("homepage") else "")
    )
    return tag(
        "section",
        tag("h2", facts.name),
        tag("p", lead, cls="lead"),
        tag("nav", *tabs, cls="tabs", aria_label=f"{facts.name}: views"),
        items(warnings(facts), "warnings"),
        terms(tiles, "tiles"),
        tag("nav", *parts, cls="parts", aria_label=f"{facts.name}: sections"),
        *(tag("div", tag("h3", title, id=f"{identity}-{key}"), body, cls="card") for key, title, body in sections),
        id=identity,
        cls="view",
        tabindex="-1",
    )  # fmt: skip


def _share_rows(counts: Iterable[tuple[object, int]], whole: int) -> list[list[object]]:
    return [[name, count(n), svg.percent(n, whole), Html(svg.bar(n, whole))] for name, n in counts]


def _shares(caption: str, what: str, counts: Iterable[tuple[object, int]], whole: int) -> Html:
    header = (what, "Rows", "Share", "")
    return table(caption, header, _share_rows(counts, whole), numbers=(1, 2), wide=(0,), shares=(3,))


def _splits(m: Mapping[str, Any]) -> Html:
    whole = row_count(m)
    rows = [
        [
            name,
            count(split["rows"]),
            svg.percent(split["rows"], whole),
            count(len(split["files"])),
            size(sum(file["bytes"] for file in split["files"])),
        ]
        for name, split in m["splits"].items()
    ]
    if not rows:
        return tag("p", "No row was kept, so there is no split.")
    header = ("Split", "Rows", "Share", "Files", "Parquet")
    return table("Rows per split", header, rows, numbers=(1, 2, 3, 4))


def _funnel(facts: Facts, identity: str) -> Html:
    funnel = facts.manifest["funnel"]
    read, kept, dropped = funnel["read"], funnel["kept"], funnel.get("dropped") or {}
    stages = funnel.get("stages")
    if stages:
        steps = [
            svg.Step(_STAGES.get(s["stage"], s["stage"]), s["read"], s["read"] - s["kept"]) for s in stages
        ]
        told = [
            (_STAGES.get(s["stage"], s["stage"]), why, n) for s in stages for why, n in s["dropped"].items()
        ]
    else:
        steps = [svg.Step("Left out", read, read - kept)]
        told = [("-", why, n) for why, n in dropped.items()]
    told = [entry for entry in told if entry[2]]
    if stages:
        order = {name: at for at, name in enumerate(dict.fromkeys(step.name for step in steps))}
        told.sort(key=lambda e: (order[e[0]], -e[2], e[1]))
    else:
        told.sort(key=lambda e: (-e[2], e[1]))
    picture = tag(
        "figure",
        tag("figcaption", "Rows that went on, and rows that each stage left out."),
        Html(svg.funnel(steps, read, kept, identity)),
    )
    if not told:
        return join((picture, tag("p", "Nothing was left out.")))
    rows = [
        [stage, why, count(n), svg.percent(n, read), Html(svg.bar(n, read))]
        for stage, why, n in told[:_REASONS]
    ]
    header = ("Stage", "Reason", "Rows", "Of all read", "")
    shown = table("Why rows were left out", header, rows, numbers=(2, 3), wide=(), shares=(4,))
    more = _more(len(told), _REASONS, "reasons are in the manifest")
    return join((picture, shown, more, _examples(facts)))


def _more(there: int, shown: int, where: str) -> Html:
    return tag("p", f"{there - shown:,} more {where}.", cls="muted") if there > shown else Html("")


def _examples(facts: Facts) -> Html:
    if not facts.rejects:
        return Html("")
    rows = [
        [reason, tag("code", e["id"]), cut(e.get("excerpt") or "-"), cut(e.get("detail") or "-")]
        for reason, examples in sorted(facts.rejects.items())
        for e in examples
    ]
    shown = table(
        "The first rows left out for each reason", ("Reason", "Id", "Beginning", "Detail"), rows, wide=(2, 3)
    )
    return tag("details", tag("summary", "Examples of what was left out"), shown)


def _lengths(m: Mapping[str, Any], identity: str) -> Html:
    lengths = {k: v for k, v in (m.get("lengths") or {}).items() if v and v.get("histogram")}
    if not lengths:
        return Html("")
    low, high = svg.extent(list(lengths.values()))
    figures = [
        tag(
            "figure",
            tag("figcaption", f"{name}: {values.get('unit', 'characters')}, logarithmic; the dashed line is the median"),
            Html(svg.histogram(values, low, high, f"Lengths of {name}", f"{identity}-{at}")),
        )
        for at, (name, values) in enumerate(lengths.items())
    ]  # fmt: skip
    rows = [[name, *(count(values.get(p)) for p in _PERCENTILES)] for name, values in lengths.items()]
    numbers = range(1, len(_PERCENTILES) + 1)
    shown = table("Lengths in characters", ("Column", *_PERCENTILES), rows, numbers=tuple(numbers))
    return join((tag("div", *figures, cls="two"), shown))


def _languages(m: Mapping[str, Any]) -> Html:
    asked = (m.get("filters") or {}).get("languages")
    lines = [join(("Declared by the source: ", ", ".join(m.get("languages") or ()) or "none"))]
    if asked is not None:
        lines.append(join(("Kept by the build: ", ", ".join(asked) or "all languages")))
    notes = m.get("notes") or {}
    whole = row_count(m)
    tables = []
    for stage, counts in notes.items():
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        name = _STAGES.get(stage, stage)
        tables.append(_shares(f"{name}: what was noted on rows kept", "Note", ordered, whole))
    return join((items(lines), *tables))


def _sources(facts: Facts) -> Html:
    m = facts.manifest
    pairs: list[tuple[object, object]] = [("Source", m.get("source") or "-")]
    if m.get("homepage"):
        pairs.append(("Homepage", link(m["homepage"], m["homepage"])))
    if m.get("parameters"):
        shown = (f"{key} = {json.dumps(value)}" for key, value in sorted(m["parameters"].items()))
        pairs.append(("Parameters", ", ".join(shown)))
    pairs += [(f"Filter {key}", _words(value)) for key, value in (m.get("filters") or {}).items()]
    if facts.attributed is not None:
        pairs.append(("Attribution", f"ATTRIBUTION.parquet credits {facts.attributed:,} rows"))
    pairs += [(f"Built with {k}", v) for k, v in sorted((m.get("built_with") or {}).items())]
    if m.get("citation"):
        cited = tag("details", tag("summary", "Citation"), tag("p", tag("code", m["citation"]), cls="text"))
    else:
        cited = Html("")
    sites = [(host or "no address", n) for host, n in facts.sites]
    if not sites:
        return join((terms(pairs, "facts"), cited))
    shown = _shares("Where source addresses point, by site", "Site", sites[:_SITES], sum(n for _, n in sites))
    return join((terms(pairs, "facts"), tag("h4", "Sites"), shown, _more(len(sites), _SITES, "sites"), cited))


def _words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _told(value: object) -> str:
    """A value of a mixture's part; of a check, its policy and the exams at hand."""
    if not isinstance(value, dict) or "policy" not in value:
        return _words(value)
    return ": ".join(_words(each) for each in (value["policy"], value.get("exams")) if each)


#: Keys of a mixture that are shown in a form of their own.
_ELSEWHERE = ("parts", "licensing")


def _mixture(m: Mapping[str, Any]) -> Html:
    mixture = m.get("mixture")
    if not mixture:
        return Html("")
    parts = mixture.get("parts") if isinstance(mixture, dict) else mixture
    if isinstance(parts, dict):
        parts = [{"dataset": key, **(v if isinstance(v, dict) else {"value": v})} for key, v in parts.items()]
    found = []
    if isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts):
        columns = [key for key in dict.fromkeys(key for part in parts for key in part) if "sha256" not in key]
        found.append(table("Its parts", columns, [[_told(part.get(c)) for c in columns] for part in parts]))
    if isinstance(mixture, dict):
        found.append(terms([(k, _words(v)) for k, v in mixture.items() if k not in _ELSEWHERE], "facts"))
    return join(found)


def _licences(facts: Facts) -> Html:
    m = facts.manifest
    counts, every = m.get("licenses") or {}, m.get("license_terms") or {}
    whole = sum(counts.values())
    rows, evidence = [], {}
    for spdx in license_ids(m):
        term, n = every.get(spdx) or {}, counts.get(spdx, 0)
        name = link(term.get("name") or spdx, term.get("url"))
        settled = "yes" if _settled(spdx, term) else tag("span", "unsettled", cls="tag alert")
        rows.append([spdx, name, settled, count(n), svg.percent(n, whole), Html(svg.bar(n, whole))])
        said = (term.get("evidence") or "").strip() or "No evidence is recorded."
        evidence.setdefault(said, []).append(spdx)
    if not rows:
        return tag("p", "There are no rows.")
    shown = table(
        "Licences of the rows",
        ("Id", "Licence", "Settled", "Rows", "Share", ""),
        rows,
        numbers=(3, 4),
        shares=(5,),
    )
    why = [join((tag("b", ", ".join(ids)), ": ", said)) for said, ids in evidence.items()]
    models = sorted((m.get("generators") or {}).items(), key=lambda item: (-item[1], item[0]))
    written = _shares("Models that wrote rows", "Model", models, whole) if models else Html("")
    return join((shown, _verdict(m), written, tag("h4", "Evidence"), items(why)))


def _verdict(m: Mapping[str, Any]) -> Html:
    verdict = m.get("license_verdict")
    if not isinstance(verdict, dict):
        return Html("")
    from meadow.core.licenses import QUESTIONS

    lines = []
    for key, answer in verdict.items():
        if isinstance(answer, dict) and "answer" in answer:
            because = " ".join(map(str, answer.get("because") or ()))
            lines.append(join((tag("b", f"{QUESTIONS.get(key, key)}: {answer['answer']}. "), because)))
    return join((tag("h4", "What may be done with the whole"), items(lines))) if lines else Html("")


def _duplicates(facts: Facts) -> Html:
    report = facts.manifest.get("duplicates")
    if not report and not facts.clusters:
        return tag("p", "Not searched for.")
    report = report or {}
    pairs = [
        (words, _words(report[key]) if not isinstance(report[key], int) else count(report[key]))
        for key, words in (
            ("exact", "Exact duplicates"),
            ("near", "Near duplicates"),
            ("clusters", "Clusters"),
            ("contradicting", "Alike but contradicting, kept"),
            ("policy", "Policy"),
            ("fields", "Judged by"),
            ("threshold", "Similarity from"),
            ("compared_with", "Compared with"),
        )
        if report.get(key) is not None
    ]
    examples = [
        tag("li", tag("p", f"{cluster.size:,} rows", cls="muted"), items(_member(m) for m in cluster.members))
        for cluster in facts.clusters
    ]
    if not examples:
        return terms(pairs, "facts")
    summary = tag("summary", "Examples of clusters: the largest, those least alike, the first")
    shown = tag("details", summary, tag("ul", *examples, cls="plain"), open="open")
    return join((terms(pairs, "facts"), shown))


def _member(member: Member) -> Html:
    if member.kept:
        state = tag("span", "survivor", cls="tag")
    elif member.similarity is None:
        state = tag("span", "dropped", cls="tag")
    else:
        state = tag("span", f"similarity {member.similarity:.3f}", cls="tag")
    words = member.excerpt or ("its text is in another dataset" if member.kept else "")
    return join((tag("code", member.id), " ", state, " ", tag("span", words, cls="muted" if member.kept and not member.excerpt else None)))  # fmt: skip


def _contamination(facts: Facts) -> Html:
    m = facts.manifest
    report = m.get("contamination")
    if m.get("test_only") and not report:
        return tag("p", "This is an exam; training rows of other datasets are checked against it.")
    if not report or report.get("policy") == "off":
        return tag("p", "Not checked against exams.")
    found: list[object] = [tag("p", f"Policy: {report.get('policy')}.")]
    rows = [
        [
            join((f"{e['exam']} {e.get('version') or ''} {e.get('split') or ''} ", tag("span", "sample", cls="tag alert") if e.get("sample") else "")),
            *(count(e.get(key, 0)) for key in ("items", "unjudged", "items_hit", "rows_hit", "rows_dropped")),
        ]
        for e in report.get("exams") or ()
    ]  # fmt: skip
    if rows:
        header = ("Exam", "Items", "Too short to judge", "Items hit", "Rows hit", "Rows dropped")
        found.append(table("What was found, per exam", header, rows, numbers=(1, 2, 3, 4, 5)))
    if report.get("unchecked"):
        found += (tag("h4", "Not checked"), items(report["unchecked"]))
    if facts.hits:
        header = ("Exam", "Item", "Row", "Kind", "Share", "Column", "Overlap", "Dropped")
        hits = [
            [
                *(_exam(h), h["item"], tag("code", h["id"]), h["kind"]),
                *(
                    "-" if h["share"] is None else svg.percent(h["share"], 1),
                    h["field"],
                    cut(h["overlap"] or "", 400),
                ),
                "yes" if h.get("dropped") else "no",
            ]
            for h in facts.hits
        ]
        shown = table("Rows that hold exam items, the clearest first", header, hits, numbers=(4,), wide=(6,))
        more = _more(facts.hits_listed, len(facts.hits), "are in contamination.parquet")
        found += (tag("h4", "Hits"), shown, more)
    return join(found)


def _exam(hit: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (hit["exam"], hit.get("exam_version"), hit.get("exam_split"))))


def _privacy(m: Mapping[str, Any]) -> Html:
    report = m.get("privacy")
    if not report or report.get("policy") == "off":
        return tag("p", "Not screened.")
    words = {
        "mask": "Findings are masked by their type, such as [EMAIL].",
        "drop": "Rows with findings are left out.",
        "flag": "Findings are flagged; the texts stay as they were.",
    }
    found = [
        tag(
            "p",
            f"{words.get(report.get('policy'), '')} {report.get('rows', 0):,} rows have findings.".strip(),
        )
    ]
    findings = sorted((report.get("findings") or {}).items(), key=lambda item: (-item[1], item[0]))
    if findings:
        whole = sum(n for _, n in findings)
        rows = [[kind, count(n), Html(svg.bar(n, whole))] for kind, n in findings]
        found.append(table("Findings by type", ("Type", "Findings", ""), rows, numbers=(1,), shares=(2,)))
    found.append(
        tag(
            "p",
            "A screen finds what looks like an identifier. It is no proof that there is none left.",
            cls="muted",
        )
    )
    return join(found)


def _versions(facts: Facts) -> Html:
    rows = [[v.version, count(v.rows), count(v.read), v.note or "-"] for v in facts.versions]
    shown = table(
        "All versions in this folder, newest first",
        ("Version", "Rows", "Read", "What changed"),
        rows,
        numbers=(1, 2),
        wide=(3,),
    )
    return join((shown, _difference(facts.difference) if facts.difference else ""))  # fmt: skip


def _difference(d: Difference) -> Html:
    head = tag("h4", f"From {d.old} to {d.new}")
    if not d.differs:
        return join((head, tag("p", f"Rows, splits and columns are the same: {d.same:,} rows.")))
    moved = sum(n for _, _, n in d.moved)
    tiles = [
        ("Added", count(d.added)),
        ("Removed", count(d.removed)),
        ("Changed", count(d.changed)),
        ("The same", count(d.same)),
        ("Moved", count(moved)),
    ]
    found: list[object] = [head, terms(tiles, "tiles")]
    lines = [f"column {name} is new ({b})" if a is None else f"column {name} is gone" if b is None else f"column {name}: {a} is {b} now" for name, (a, b) in d.columns.items()]  # fmt: skip
    lines += [f"rows moved from {a} to {b}: {n:,}" for a, b, n in d.moved]
    lines += [f"rows with another {column}: {n:,}" for column, n in d.changed_columns.items()]
    found.append(items(lines))
    lines = _pairs("licence", d.licenses) + _pairs("funnel,", d.funnel) + _pairs("setting", d.settings)
    lines += [f"raw file {path}: {'new' if a is None else 'gone' if b is None else 'other bytes'}" for path, (a, b) in list(d.raw.items())[:_PAIRS]]  # fmt: skip
    if lines:
        found.append(tag("details", tag("summary", "Licences, funnel, settings and raw files"), items(lines)))
    for title, rows in (("Added", d.added_rows), ("Removed", d.removed_rows)):
        if rows:
            lines = [
                join((tag("code", r.id), " ", tag("span", r.split, cls="tag"), " ", r.excerpt)) for r in rows
            ]
            found.append(tag("details", tag("summary", f"{title}: the first {len(rows)}"), items(lines)))
    if d.changed_rows:
        changed = [
            join((
                tag("code", row.id),
                items(
                    join((tag("b", c.column), tag("div", _none(c.before), cls="was"), tag("div", _none(c.after), cls="now")))
                    for c in row.changes
                ),
            ))
            for row in d.changed_rows
        ]  # fmt: skip
        found.append(tag("details", tag("summary", f"Changed: {len(changed)} examples"), items(changed)))
    return join(found)


def _none(value: str | None) -> Html:
    return tag("i", "none") if value is None else text(value)


def _pairs(what: str, pairs: Mapping[str, tuple[Any, Any]]) -> list[str]:
    shown = (f"{what} {name}: {_number(a)} before, {_number(b)} now" for name, (a, b) in pairs.items())
    return list(shown)[:_PAIRS]


def _number(value: object) -> str:
    return f"{value:,}" if type(value) is int else _words(value)


def _raw(m: Mapping[str, Any]) -> Html:
    files = m.get("raw") or ()
    rows = [[tag("code", f["path"]), f"{f['bytes']:,}", _sum(f["sha256"])] for f in files[:_RAW]]
    shown = (
        table("Raw files read", ("File", "Bytes", "SHA-256"), rows, numbers=(1,), wide=(0,))
        if rows
        else Html("")
    )
    if len(rows) > _OPEN:
        shown = tag("details", tag("summary", f"{len(files):,} raw files"), shown)
    built = [
        [tag("code", file["path"]), f"{file['bytes']:,}", _sum(file["sha256"])]
        for split in m["splits"].values()
        for file in split["files"][:_RAW]
    ]
    parquet = (
        table("Parquet files written", ("File", "Bytes", "SHA-256"), built, numbers=(1,), wide=(0,))
        if built
        else Html("")
    )
    if len(built) > _OPEN:
        parquet = tag("details", tag("summary", f"{len(built):,} Parquet files"), parquet)
    sums = [(f"{name}_sha256", _sum(m.get(f"{name}_sha256"))) for name in ("ids", "rows")]
    return join(
        (shown, _more(len(files), _RAW, "raw files are in the manifest"), parquet, terms(sums, "facts"))
    )


def _sum(value: object) -> Html:
    return tag("code", hexadecimal(value or ""), cls="sum")
