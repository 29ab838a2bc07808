"""The smallest Django project that `bandstand serve` can find by itself, with a way to break each part."""

from pathlib import Path

FILES = {
    "manage.py": """\
        import os, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
        """,
    "mysite/__init__.py": "",
    "mysite/settings.py": """\
        from pathlib import Path
        BASE_DIR = Path(__file__).resolve().parent.parent
        SECRET_KEY = "only for these tests, forty characters and more"
        DEBUG = False
        ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
        ROOT_URLCONF = "mysite.urls"
        WSGI_APPLICATION = "mysite.wsgi.application"
        INSTALLED_APPS = []
        MIDDLEWARE = []
        STATIC_URL = "/assets/"
        STATIC_ROOT = BASE_DIR / "collected"
        """,
    "mysite/wsgi.py": """\
        import os
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
        from django.core.wsgi import get_wsgi_application
        application = get_wsgi_application()
        """,
    "mysite/urls.py": """\
        import os
        from django.http import HttpResponse
        from django.urls import re_path
        def page(request):
            return HttpResponse("django says " + os.environ.get("GREETING", "hello"))
        urlpatterns = [re_path("", page)]
        """,
    "collected/site.css": "body { color: teal }\n",
}


def write(folder: Path, **changes: str) -> Path:
    """Write the project; `changes` are texts put at the end of a module: `settings="DEBUG = True"`."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line.removeprefix("        ") for line in text.splitlines(True)))
    for module, text in changes.items():
        with open(folder / "mysite" / f"{module}.py", "a") as file:
            file.write(f"\n{text}\n")
    return folder
