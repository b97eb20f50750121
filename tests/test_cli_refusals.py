"""What cannot be done is refused by every command: status 2, a reason, and nothing left behind."""

from __future__ import annotations

import re

import pytest

from hstmap.cli import main
from hstmap.commands import COMMANDS
from support.archive import write_archive


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two images and a run of them."""
    folder = tmp_path_factory.mktemp("refusals")
    write_archive(folder / "images", 2)
    arguments = ["map", str(folder / "images"), "-o", str(folder / "out"), "--engine", "inprocess"]
    assert main([*arguments, "--quiet"]) == 0
    (folder / "list.csv").write_text("ra,dec\n0,0\n")
    return folder


#: Words of a command, and what the refusal says.
REFUSED = [
    ("map images -o new --limit 0", "0 is less than 1"),
    ("map images -o new --workers -1", "-1 is less than 1"),
    ("map images -o new --limit many", "'many' is no whole number"),
    ("map images -o new --batch-size 0", "0"),
    ("map images -o new --threshold nan --engine inprocess", "threshold"),
    ("map images -o new --threshold -1 --engine inprocess", "threshold"),
    ("map images -o new --mesh 0 --engine inprocess", "mesh"),
    ("map images -o new --kernel-fwhm -2 --engine inprocess", "kernel"),
    ("map images -o new --deblend-contrast 2 --engine inprocess", "contrast"),
    ("map images -o new --min-pixels 0 --engine inprocess", "min_pixels|pixels"),
    ("map images -o new --good-bits x --engine inprocess", "bits"),
    ("map images -o new --retries -1 --engine inprocess", "retries"),
    ("map images -o new --timeout -1 --engine inprocess", "timeout"),
    ("map nowhere -o new", "nowhere is neither a file nor a folder"),
    ("map images -o out --threshold 9 --engine inprocess", "threshold is 1.5 there and 9.0 here"),
    ("map images -o new --engine spark", "invalid choice: 'spark'"),
    ("map images -o /proc/new --engine inprocess", "/proc/new/.* cannot be written"),
    ("map images -o list.csv --engine inprocess", "is a file where a folder is needed"),
    ("overlay out isim01a1q -o /proc/x.png", "/proc/x.png: is below /proc"),
    ("export out -o /proc/x.csv", "/proc/x.csv: is below /proc"),
    ("export out -o /dev/full --format csv", "/dev/full: is a device or a pipe: name a file"),
    ("export out -o list.csv/x.csv", "is a file where a folder is needed"),
    ("simulate -o /proc/new --n 1", "below /proc"),
    (
        "plan --images 9 --prices us-east-1-2018",
        "have no arm64: give --architecture x86_64, or other prices",
    ),
    ("plan --images 0", "0 is less than 1"),
    ("plan images --limit -1", "-1 is less than 1"),
    ("plan --images 10 --workers 0", "0 is less than 1"),
    ("info images -o new --limit 0", "0 is less than 1"),
    ("info images -o new --batch-size -1", "-1 is less than 1"),
    ("info images -o new --workers 0", "0 is less than 1"),
    ("info nowhere -o new", "nowhere is neither"),
    ("info", "SOURCE"),
    ("fetch images --to new --limit 0", "0 is less than 1"),
    ("fetch images --to new --connections 0", "0 is less than 1"),
    ("fetch nowhere --to new", "nowhere is neither"),
    ("fetch images", "--to"),
    ("simulate -o new --n 0", "--n is 0; give 1 or more"),
    ("simulate -o new --n -3", "--n is -3; give 1 or more"),
    ("simulate -o new --seed -1", "seed -1; expected 0 or more"),
    ("simulate -o new --separation -3", "separation -3.0; expected 0 arcsec"),
    ("simulate -o new --separation nan", "separation nan; expected 0 arcsec"),
    ("simulate -o new --exposure nan", "exposure of nan s; expected more than 0"),
    ("simulate -o new --exposure inf", "exposure of inf s; expected more than 0"),
    ("simulate -o new --exposure 0", "exposure of 0.0 s; expected more than 0"),
    ("simulate -o new --dither nan 0 --subarray 64", "dither \\(nan, 0.0\\)"),
    ("simulate -o new --dither 0 inf --subarray 64 --drz", "moved by inf arcsec"),
    ("simulate -o new --dither 1e6 0 --subarray 64 --drz", "moved by 1e.06 arcsec; expected at"),
    ("simulate -o new --sky inf", "sky inf; expected 0 e-/s or more"),
    ("simulate -o new --sky -1", "sky -1.0; expected 0 e-/s or more"),
    ("simulate -o new --cosmic-ray-rate nan", "cosmic-ray rate nan"),
    ("simulate -o new --cosmic-ray-rate inf", "cosmic-ray rate inf"),
    ("simulate -o new --n-samples 1", "1 samples; expected 2 to 16"),
    ("simulate -o new --subarray 65", "invalid choice: 65"),
    ("simulate -o new --filter F606W", "F606W"),
    ("simulate -o new --n-stars -1", "numbers of sources"),
    ("overlay out isim01a1q -o new.xyz", "new.xyz is no name for a picture"),
    ("overlay out isim01a1q -o new.png --dpi 0", "0 is less than 1"),
    ("overlay out isim99a1q -o new.png", "no image 'isim99a1q'; it has isim0"),
    ("overlay nowhere isim01a1q -o new.png", "there is no run at .*nowhere"),
    ("export out -o new.xyz", "does not say its format"),
    ("export out --cone 1 2 -3 -o new.csv", "the radius is -3"),
    ("export out --cone 1 2 nan -o new.csv", "the radius is nan"),
    ("export out --cone 1 91 3 -o new.csv", "the declination is 91"),
    ("export out --image isim99a1q -o new.csv", "no image 'isim99a1q'"),
    ("score out --truth nowhere", "nowhere has no table of the truth"),
    ("score out --truth list.csv --radius -1", "radius is -1.0; it must be more than 0"),
    ("score out --truth list.csv --radius nan", "radius is nan; it must be more than 0"),
    ("score out --truth images -o new.xyz", "no name for a plot or table"),
    ("score out", "--truth"),
    ("reduce nowhere", "there is no run at .*nowhere"),
    ("bill nowhere", "has no ledger with attempts that ended"),
    ("manifest --limit 0 -o new.parquet", "limit is 0: give a number of rows"),
    ("manifest --since yesterday -o new.parquet", "invalid fromisoformat value: 'yesterday'"),
    ("no-such-command", "invalid choice: 'no-such-command'"),
    ("", "COMMAND"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_it_is_refused_with_its_reason(place, monkeypatch, capsys, words, said):
    monkeypatch.chdir(place)
    before = sorted(path for path in place.rglob("*"))
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    reason = err.strip().splitlines()[-1]
    assert re.search(said, reason), reason
    assert "error: " in reason
    assert "Traceback" not in err
    assert sorted(path for path in place.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_can_be_cut_short(command, capsys):
    # An abbreviation would change its meaning with the next option that begins alike.
    assert main([command, "--qui"]) == 2
    assert main([command, "--no-such-option"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    text = " ".join(out.split())
    explanation = " ".join((COMMANDS[command].__doc__ or "").split())
    assert explanation
    assert explanation in text
    assert "--quiet" in text
    assert main(["--help"]) == 0
    assert COMMANDS[command].HELP in " ".join(capsys.readouterr().out.split())
