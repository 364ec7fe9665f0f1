"""The check of a data set: what it counts, its verdicts, and how it ends."""

import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from camvid_files import write_camvid
from cityscapes_files import write_cityscapes
from coco_files import write_coco
from folder_files import write_folder
from PIL import Image
from scipy.ndimage import label as components
from tiny import call_script
from voc_files import write_voc

from segattn.data import build_source
from segattn.data import check as checks
from segattn.data.camvid import CamVid
from segattn.data.check_shown import QUANTILES, class_table, verdict
from segattn.data.scenes import Scenes

T, A = "train/0001TP_train002.png", "trainannot/0001TP_train002.png"


def check(data, root, *, jobs=1, **knobs):
    return checks.check(data, {"root": str(root), **knobs}, jobs=jobs)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The picture is written below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def complete(monkeypatch):
    """CamVid's official counts are those of the small set."""
    monkeypatch.setattr(
        CamVid, "official", {"train": ("train", 6), "val": ("val", 3), "test": ("test", 3)}
    )


def text(path):
    path.write_text("no picture")


def run_script(monkeypatch, capsys, *arguments):
    """Exit code, or message, and the output of scripts/check_data.py."""
    return call_script(monkeypatch, "check_data.py", *arguments), capsys.readouterr().out


def test_all_damage_is_named_in_one_run(tmp_path):
    root = write_camvid(tmp_path)
    bad = [root / path for path in (T, A, "val/0001TP_val001.png", "testannot/0001TP_test002.png")]
    for path in bad:  # the first two belong together
        text(path)
    absent = root / "trainannot/0001TP_train004.png"
    absent.unlink()
    found = check("camvid", root)
    for path in (*bad, absent):
        assert sum(str(path) in line for line in found.problems) == 1, path
    assert verdict(found) == "FAILED: 8 problems in camvid, 11 images in 3 splits"


def test_a_bug_of_a_reader_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(Scenes, "load", lambda *_: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        check("scenes", tmp_path, num_train=2, num_val=1, num_test=1)


def test_label_beyond_the_classes_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(CamVid, "read_label", lambda *_: (np.full((64, 96), 254, np.uint8), None))
    found = check("camvid", write_camvid(tmp_path))
    assert sum("was read with labels [254]" in line for line in found.problems) == 12


def direct_sizes(label, instances):
    """Class and sqrt(area) of each object, another way than the package finds them."""
    sizes = []
    for value in set(np.unique(label)) - {255}:
        mask = label == value
        ids = np.where(mask, instances, 0) if instances is not None else np.zeros_like(label)
        parts = [ids == k for k in np.unique(ids) if k]
        found, count = components(mask & (ids == 0), structure=np.ones((3, 3)))
        parts += [found == k for k in range(1, count + 1)]
        sizes += [(int(value), float(np.sqrt(part.sum()))) for part in parts]
    return sizes


@pytest.mark.parametrize(
    ("data", "write"),
    [("camvid", write_camvid), ("voc", write_voc)],  # in VOC, objects of one class touch
)
def test_counts_shares_and_quantiles_are_those_of_the_labels(tmp_path, data, write):
    root = write(tmp_path)
    split = check(data, root).splits[0]
    source = build_source(data, "train", root=str(root))
    samples = [source.load(index) for index in range(len(source.names))]
    sizes = [size for s in samples for size in direct_sizes(s.label, s.instances)]
    found = [(c, s) for f in split.facts for c, s in zip(f.cls, f.size, strict=True)]
    assert sorted(found) == sorted(sizes)
    labels = np.concatenate([sample.label.ravel() for sample in samples])
    expected = [(labels == index).sum() for index in [*range(len(source.classes)), 255]]
    assert split.pixels.tolist() == expected
    table = [list(column.cells) for column in class_table(split, (5.0, 9.0)).columns]
    of_first = [size for cls, size in sizes if cls == 0]
    assert table[1][0] == f"{100 * expected[0] / sum(expected[:-1]):.3f}"
    assert table[2][0] == str(len(of_first))
    assert table[2][-1] == str(len(sizes))
    for column, (low, high) in zip(table[3:6], [(0, 5), (5, 9), (9, 1e9)], strict=True):
        assert column[0] == str(sum(low <= size < high for size in of_first))
        assert column[-1] == str(sum(low <= size < high for _, size in sizes))
    for column, quantile in zip(table[6:], QUANTILES, strict=True):
        assert column[0] == f"{np.quantile(of_first, quantile / 100):.1f}"
        assert column[-1] == f"{np.quantile([s for _, s in sizes], quantile / 100):.1f}"


def test_splits_of_one_official_split_are_read_once(tmp_path):
    found = check("cityscapes", write_cityscapes(tmp_path), jobs=2)
    assert [(s.title, [facts.shape for facts in s.facts]) for s in found.splits] == [
        ("train", 4 * [(32, 64)]),
        ("val, test", 3 * [(32, 64)]),
    ]
    assert [split.warnings for split in found.splits] == [[], []]


def test_processes_change_nothing(tmp_path):
    root = write_camvid(tmp_path)
    text(root / T)
    one, two = check("camvid", root), check("camvid", root, jobs=2)
    assert (one.problems, one.warnings) == (two.problems, two.warnings)
    for a, b in zip(one.splits, two.splits, strict=True):
        assert a.pixels.tolist() == b.pixels.tolist()
        assert [f.size.tolist() for f in a.facts] == [f.size.tolist() for f in b.facts]


@pytest.mark.parametrize(
    ("data", "write", "knobs"),
    [
        ("camvid", write_camvid, {}),
        ("folder", write_folder, {}),
        ("coco", write_coco, {"train": "train.json", "test": "test.json"}),
    ],
)
def test_what_processes_are_sent_can_be_pickled(tmp_path, data, write, knobs):
    """Where they are not forked, as on macOS."""
    source = build_source(data, "val", root=str(write(tmp_path)), **knobs)
    expected = [facts.pixels.tolist() for facts in checks._looks(source, 1)]
    copied = pickle.loads(pickle.dumps(source))
    assert [facts.pixels.tolist() for facts in checks._looks(copied, 1)] == expected
    assert [facts.pixels.tolist() for facts in checks._looks(source, 2)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])  # macOS spawns
def test_processes_may_be_started_in_any_way(tmp_path, monkeypatch, method):
    source = build_source("camvid", "val", root=str(write_camvid(tmp_path)))
    expected = [facts.pixels.tolist() for facts in checks._looks(source, 1)]
    pool = partial(ProcessPoolExecutor, mp_context=get_context(method))
    monkeypatch.setattr(checks, "ProcessPoolExecutor", pool)
    assert [facts.pixels.tolist() for facts in checks._looks(source, 2)] == expected


def test_script_of_a_good_set_ends_with_ok(tmp_path, complete, monkeypatch, capsys):
    root = write_camvid(tmp_path)
    arguments = ["data=camvid", f"data.root={root}", "--jobs", "1"]
    code, output = run_script(monkeypatch, capsys, *arguments)
    assert (code, output.splitlines()[-1]) == (0, "OK: camvid, 12 images in 3 splits")
    assert re.search(r"train +6 +6 +6 +96x64 +96x64 +10.42 +0", output)
    assert max(map(len, output.splitlines())) <= 100
    Image.fromarray(np.full((64, 96), 11, np.uint8)).save(root / A)
    code, output = run_script(monkeypatch, capsys, *arguments)
    assert code == 0
    assert output.endswith("OK with 1 warning: camvid, 12 images in 3 splits\n")


def test_images_that_viewers_turn_are_counted(tmp_path):
    root = write_camvid(tmp_path, suffix=".jpg")
    for name in ("test000", "test002"):
        exif = Image.Exif()
        exif[0x0112] = 3
        path = root / "test" / f"0001TP_{name}.jpg"
        Image.open(path).save(path, exif=exif)
    told = [line for line in check("camvid", root).warnings if "EXIF" in line]
    assert told == [
        "test: 2 images with an EXIF orientation, which is not applied: the labels must lie on the "
        "pixels as they are stored"
    ]


def test_scenes_have_no_official_count(tmp_path, monkeypatch, capsys):
    sizes = ["height=64", "width=64", "num_train=3", "num_val=2", "num_test=1"]
    overrides = ["data=scenes", *(f"data.{o}" for o in (f"root={tmp_path}", *sizes))]
    code, output = run_script(monkeypatch, capsys, *overrides, "--jobs", "2")
    assert code == 0
    assert re.search(r"train +3 +- +3 +64x64", output)
    assert "problem" not in output.partition("quantiles")[2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=camvit"], "unknown data 'camvit'; choose one of .*'camvid'"),
        (["data.root=x"], "name one data set"),
        (["data=camvid"], r"not set: data\.root; pass data\.root=VALUE"),
        (["data=camvid", "head=fla"], r"only data=NAME and data\.KNOB=VALUE .*drop \['head=fla'"),
        (["data=camvid", "data.root=x", "+data.shift=1"], "no knob 'shift'; its knobs"),
        (["data=camvid", "data.root=x", "data.scale=big"], "scale must be float, got 'big'"),
    ],
)
def test_script_refuses_what_it_cannot_use(monkeypatch, capsys, overrides, message):
    code, _ = run_script(monkeypatch, capsys, *overrides)
    assert re.match(f"error: .*{message}", code)
