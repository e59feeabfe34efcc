"""An RTSP server to test against. Runs under the system's python3, which has GStreamer's bindings.

    /usr/bin/python3 rtsp_server.py [--port N] [--auth-port N] [--file CLIP]

Prints both ports in one line and serves until it is killed. Open to all on the first port: /live (a
moving picture) and, when a clip is given, /file (the clip from its beginning for every client). On
the second port, for user `user` with password `secret` only: /auth, the same as /live.
"""

from __future__ import annotations

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

USER, PASSWORD = "user", "secret"
LIVE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12"
    " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
FILE = (
    "( filesrc location={path} ! qtdemux name=d d.video_0 ! queue ! h264parse"
    " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--auth-port", type=int, default=0)
    arguments.add_argument("--file")
    options = arguments.parse_args()
    Gst.init(None)
    mounts = {"/live": _factory(LIVE, shared=True)}
    if options.file:
        mounts["/file"] = _factory(FILE.format(path=options.file), shared=False)
    opened = _server(options.port, mounts)
    guarded = _server(options.auth_port, {"/auth": _members_only(_factory(LIVE, shared=True))})
    guarded.set_auth(_auth())
    print(opened.get_bound_port(), guarded.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()


def _server(
    port: int, factories: dict[str, GstRtspServer.RTSPMediaFactory]
) -> GstRtspServer.RTSPServer:
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    for mount, factory in factories.items():
        server.get_mount_points().add_factory(mount, factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    return server


def _factory(launch: str, *, shared: bool) -> GstRtspServer.RTSPMediaFactory:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(shared)
    return factory


def _members_only(factory: GstRtspServer.RTSPMediaFactory) -> GstRtspServer.RTSPMediaFactory:
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(USER, "media.factory.access", True)
    permissions.add_permission_for_role(USER, "media.factory.construct", True)
    factory.set_permissions(permissions)
    return factory


def _auth() -> GstRtspServer.RTSPAuth:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", USER)
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(USER, PASSWORD), token)
    return auth


if __name__ == "__main__":
    main()
