"""TABLE of the views; the same ones again behind `include` and behind a language."""

import functools

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path, re_path

from . import views

shapes = [
    path("sync/", views.sync, name="sync"),
    path("async/", views.later, name="async"),
    path("suspended/", views.suspended),
    path("sync-class/", views.SyncClass.as_view()),
    path("async-class/", views.AsyncClass.as_view()),
    path("decorated-class/", views.DecoratedClass.as_view()),
    path("decorated/", views.decorated),
    path("wrapped-sync/", views.wrapped_sync),
    path("partial/", functools.partial(views.later, given=1)),
    path("callable/", views.Callable()),
    path("lambda/", lambda request: views.sync(request)),
    re_path(r"^pattern/(?P<number>[0-9]+)/$", views.later),
]

urlpatterns = [
    *shapes,
    path("inc/<int:number>/", include(([path("sync/", views.sync), path("async/", views.later)], "inc"))),
    path("overtime/", include("mixed_site.overtime")),
    path("redirect/", views.redirect),
    path("orm/", views.orm),
    path("sets-word/", views.sets_word),
    path("waits/<slug:name>/", views.waits),
    path("holds/<slug:name>/", views.holds),
    path("gathers/", views.gathers),
    path("uploads/", views.uploads),
    path("stream/<slug:name>/", views.stream),
    path("endless/<slug:name>/", views.endless),
    path("stream-fails/", views.stream_fails),
    path("sync-stream/", views.sync_stream),
    path("file/", views.file),
    path("fails/", views.fails),
    path("fails/<slug:how>/", views.fails_softly),
    path("signals/", views.signals),
    path("no-answer/", views.no_answer),
    path("plain/", views.plain),
    *i18n_patterns(path("words/sync/", views.sync), path("words/async/", views.later)),
]
