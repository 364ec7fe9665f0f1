"""Files of a run folder that are damaged are told in one line."""

import pytest
from tiny_checkpoint import write_checkpoint

from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.evaluation.predict import predict_folder


def test_a_damaged_object_table_is_a_users_error(tmp_path):
    Run(tmp_path).objects_path.write_bytes(b"PAR1xx")
    with pytest.raises(UserError, match="is not a whole object table"):
        Run(tmp_path).objects()


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("config.yaml", "a: [b", lambda run: run.config),
        ("config.yaml", "", lambda run: run.config),
        ("status.json", "[1]", lambda run: run.status),
        ("result.json", "{half", lambda run: run.result),
        ("metrics.jsonl", "\udcff", lambda run: run.metrics()),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, read):
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=name):
        read(Run(tmp_path))


def test_a_file_that_could_run_code_brings_no_advice_to_run_it(tmp_path):
    path = write_checkpoint(tmp_path / "c.ckpt")
    path.write_text("no checkpoint")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    with pytest.raises(UserError, match=r"version of segattn \(Weights only load failed\)$"):
        predict_folder(path, images=tmp_path / "in", out=tmp_path / "out")
