"""A probe over TLS against a server that has a certificate of its own making."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

from minipod.agent.probes.kinds.connection import Answer
from minipod.agent.probes.kinds.http import HttpProbe, http_request
from minipod.api.types import HTTPGetAction

LONG = b"x" * 200_000  # many records of TLS


def certificate(folder: Path) -> ssl.SSLContext:
    files = (folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=nobody"]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def test_any_certificate_will_do_and_what_tls_splits_is_put_together(tmp_path: Path) -> None:
    async def main() -> Answer:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG) + LONG)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=certificate(tmp_path)) as server:
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[Answer] = loop.create_future()
            request = http_request(HTTPGetAction(port=port, scheme="HTTPS"), "127.0.0.1", port)
            probe = HttpProbe(loop, "127.0.0.1", request, answered.set_result)
            try:
                return await asyncio.wait_for(answered, 30)
            finally:
                probe.give_up()

    assert asyncio.run(main()) == Answer("success")
