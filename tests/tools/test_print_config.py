from tests.tools.running import run_python


def test_a_configuration_is_shown_merged():
    done = run_python('tools/print_config.py', 'isda_r50_3x_coco', '--cfg-options', 'load_from=x')
    assert done.returncode == 0, done.stderr
    assert "load_from = 'x'" in done.stdout
    assert 'max_epochs=42' in done.stdout


def test_safe_shows_the_text_and_runs_nothing(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text("import os\nos.mkdir('probe')\n")
    done = run_python('tools/print_config.py', path, '--safe', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "os.mkdir('probe')" in done.stdout
    assert not (tmp_path / 'probe').exists()


def test_wrong_use_answers_two(tmp_path):
    for arguments, remedy in [
        (['absent.py'], 'there is no configuration absent.py'),
        (['isda_r50_3x_coco', '--safe', '--cfg-options', 'a=1'], '--safe does not make one'),
    ]:
        done = run_python('tools/print_config.py', *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert remedy in done.stderr


def test_help_comes_at_once():
    assert '--safe' in run_python('tools/print_config.py', '--help', timeout_s=2).stdout
