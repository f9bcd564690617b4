"""A Django project in one file that answers from what it follows, and says how old that may be.

Run it beside a node (``softstate serve``): ``gunicorn --preload --workers 2 softstate.examples.django_app``. Then::

    softstate publish prices/eur 1.5
    curl localhost:8000/price/eur         # {"price": 1.5, "age": 0.7}
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")

# Its thread starts at the first use in each process, so that it may be made before workers are forked.
soft = softstate.sync.connect(URL, max_age=5.0)


def price(_: HttpRequest, currency: str) -> JsonResponse:
    """Answer from memory; a node is asked if that may be older than 5 s, and for 2 s at most."""
    soft.follow("prices/")
    try:
        known = soft.read(f"prices/{currency}", timeout_s=2.0)
    except softstate.Invalid as error:
        return JsonResponse({"detail": str(error)}, status=400)
    except (softstate.Stale, softstate.Unavailable) as error:
        return JsonResponse({"detail": str(error)}, status=503)
    if known is None:
        return JsonResponse({"detail": f"no price of {currency} was published"}, status=404)
    return JsonResponse({"price": known.value, "age": known.age})


urlpatterns = [path("price/<currency>", price)]

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "for trying it only"),
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
)
application = get_wsgi_application()
