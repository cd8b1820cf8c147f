# python3 -m venv, pip included, and programs run out of it.
. "$(dirname "$0")/prelude.sh"
need python3
run python3 -m venv env
equal "$WORK/env" "$(env/bin/python -c 'import sys; print(sys.prefix)')" "prefix of the environment"
run env/bin/pip --version
run env/bin/pip --no-input list --disable-pip-version-check
mkdir -p package/hello && printf 'def hello():\n    return "hello"\n' >package/hello/__init__.py
cp -r package/hello "$(env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
equal hello "$(env/bin/python -c 'import hello; print(hello.hello())')" "a module out of the environment"
run env/bin/python -m compileall -q env/lib
run env/bin/python -m pip --version
pass
