"""A Kinesis that misbehaves on purpose, for tests of what sends to it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct


class FakeKinesis:
    """Plays AWS where it misbehaves: each PutRecords is answered as the next of `answers` says.

    The last answer goes on. An answer is a function of the records that gives (status, body), or
    one of "close", "reset", "half" and "never".
    """

    def __init__(self) -> None:
        self.answers: list = [ack_all]
        self.described = (200, {"StreamDescriptionSummary": {"OpenShardCount": 1}})
        self.requests: list[list[bytes]] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().splitlines()
                length = next(line for line in lines if line.startswith("content-length:"))
                content = await reader.readexactly(int(length.partition(":")[2]))
                body = json.loads(content)
                self.heads.append(head.decode())
                self.bodies.append(content)
                if "putrecords" not in head.decode().lower():
                    await self._write(writer, *self.described)
                elif not await self._put(writer, body["Records"]):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _put(self, writer, records) -> bool:
        """Answers a PutRecords; whether the connection goes on."""
        self.requests.append([base64.b64decode(record["Data"]) for record in records])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "never":
            await asyncio.Event().wait()
        elif answer == "half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
            await writer.drain()
        elif answer == "reset":
            plug = writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif answer != "close":
            await self._write(writer, *answer(records))
            return True
        return False

    @staticmethod
    async def _write(writer, status, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        await writer.drain()


def ack_all(records):
    told = [{"SequenceNumber": "49", "ShardId": "shardId-000000000000"} for _ in records]
    return 200, {"FailedRecordCount": 0, "Records": told}


def refuse_all(code: str):
    def answer(records):
        told = [{"ErrorCode": code, "ErrorMessage": "no"} for _ in records]
        return 200, {"FailedRecordCount": len(records), "Records": told}

    return answer
