"""The pages for people: short sentences, links that lead somewhere, and commands that exist with these options."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from pipeline.params import overlay_params
from synthgain.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {"faults.md", "literature.md", "reference.md"}  # printed by the tables that they show
MOST_WORDS = 18  # of a sentence, on average
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
_FENCE = re.compile(r"^```.*?^```", flags=re.S | re.M)
_LIST_ITEM = re.compile(r"\s*([-*]|\d+\.)\s")


def sentences(text):
    """The sentences of a page's paragraphs and list items: no code, no table, no heading, no picture."""
    text = re.sub(r"<!--.*?-->", "", text)
    for paragraph in re.split(r"\n\s*\n", _FENCE.sub("", text)):
        item = ""
        lines = [line for line in paragraph.splitlines() if not re.match(r"\s*\||#|!\[", line)]
        for line in [*lines, "- "]:
            if not _LIST_ITEM.match(line):
                item += f" {line.strip()}"
                continue
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", item)
            plain = re.sub(r"`[^`]*`", "code", plain).replace("**", "").strip()
            yield from re.split(r"(?<=[.!?:;])\s+(?=[A-Z“\"(])", plain) if plain else ()
            item = _LIST_ITEM.sub("", line)


def words(sentence):
    return len(re.findall(r"[\w'’%.+−-]+", sentence))


def test_sentences_are_counted_as_a_reader_would():
    text = "# Title\n\nOne two `a b c` four. Five [six seven](x.md).\n\n| a | b |\n\n- Eight nine\n  ten.\n"
    assert [words(sentence) for sentence in sentences(text)] == [4, 3, 3]


@pytest.mark.parametrize("name", [name for name in NAMES if Path(name).name not in MADE])
def test_sentences_are_short(name):
    found = sorted(sentences((ROOT / name).read_text(encoding="utf-8")), key=words)
    counts = [words(sentence) for sentence in found]
    assert sum(counts) / len(counts) < MOST_WORDS, f"the longest, {counts[-1]} words: {found[-1]}"


def anchors(page):
    """What GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def commands(text):
    """(command line, whether it is whole) of each `synthgain …` and `make …` on a page."""
    for block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:synthgain|make) .*)", line):
                yield re.split(r" #| && ", found[1])[0].strip(), True
    for code in re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)):
        if found := re.fullmatch(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:synthgain|make) .*)", code):
            yield found[1], False


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist_and_take_these_options(name):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for line, whole in commands((ROOT / name).read_text(encoding="utf-8")):
        program, *arguments = shlex.split(line.replace("…", ""))
        if program == "make":
            assert {word for word in arguments if "=" not in word and not word.startswith("-")} <= targets, (
                line
            )
            continue
        command = typer.main.get_command(app)
        while arguments and hasattr(command, "commands") and not arguments[0].startswith("-"):
            assert arguments[0] in command.commands, line
            command = command.commands[arguments.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
        options |= {"--help", "-h", "--debug"}
        given = {argument.split("=")[0] for argument in arguments if re.match("--?[a-z]", argument)}
        assert given <= options, line
        needed = [
            parameter
            for parameter in command.params
            if parameter.param_type_name == "argument" and parameter.required
        ]
        if whole and not given & {"--help", "-h"}:
            assert len(arguments) >= len(needed), line


@pytest.mark.parametrize("name", ["README.md", "docs/own-data.md"])
def test_the_params_of_a_page_are_params(name, tmp_path):
    """The first block of a page, alone; each further one beside it, section by section."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), flags=re.S | re.M)
    assert blocks
    changes = {}
    for block in blocks:
        for section, values in yaml.safe_load(block).items():
            changes[section] = changes.get(section, {}) | values
        (tmp_path / "my.yaml").write_text(yaml.safe_dump(changes))
        overlay_params(ROOT / "params.yaml", tmp_path / "my.yaml")
