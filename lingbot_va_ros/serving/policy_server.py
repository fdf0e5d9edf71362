"""The websocket server: many clients, one model, one prediction at a time."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from lingbot_va_ros.serving.policy_session import Policy, PolicySession
from lingbot_va_ros.serving.wire import pack, unpack

MEBIBYTE = 2**20
HEALTH = '/healthz'
PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 120.0  # a client may be busy with its robot or simulator; one that is gone must not keep its memory
LONGEST_PROBLEM = 500  # characters
LOG = logging.getLogger(__name__)


class PolicyServer:
    """Serves a policy; each connection has a session of its own.

    All that takes long runs in one thread, in the order of arrival, so that predictions do not share the processor and
    the server goes on to answer. A request that cannot be answered is answered with a text, and the connection is
    closed with code 1011.

    Args:
        policy: what is served.
        seed: of every session's noise, so that clients get the same results beside others as alone.
        sessions: connections at a time; more are refused with HTTP status 503.
        message_mib: length limit of a request; a longer one closes the connection with code 1009.
        api_key: what clients must send as `Authorization: Api-Key <key>`; others are refused with HTTP status 401.
    """

    def __init__(
        self, policy: Policy, seed: int = 0, sessions: int = 4, message_mib: int = 192, api_key: str | None = None
    ) -> None:
        self._policy, self._seed = policy, seed
        self._sessions, self._largest = sessions, message_mib * MEBIBYTE
        self._authorization = None if api_key is None else f'Api-Key {api_key}'.encode()
        self._open = 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve within the block; gives the port, a free one for 0.

        At the end clients are told that the server goes away, and a prediction that is under way is finished.

        Raises:
            OSError: host and port cannot be bound.
        """
        with ThreadPoolExecutor(1, 'policy') as self._worker:
            async with serve(
                self._converse,
                host,
                port,
                process_request=self._admit,
                origins=[None],  # web pages send one: no page that someone visits may talk to a server on this machine
                compression=None,  # images of cameras hardly shrink, and a bomb is no message
                max_size=self._largest,
                max_queue=1,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_TIMEOUT_S,
            ) as server:
                yield server.sockets[0].getsockname()[1]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no websocket, and refuse whom there is no place for."""
        if request.path == HEALTH:
            return connection.respond(HTTPStatus.OK, 'OK\n')
        if self._authorization is not None:
            given = ' '.join(request.headers.get_all('Authorization')).encode(errors='replace')
            if not hmac.compare_digest(given, self._authorization):
                return connection.respond(HTTPStatus.UNAUTHORIZED, 'Authorization: Api-Key <key> is missing or wrong\n')
        if self._open >= self._sessions:
            problem = f'all {self._sessions} sessions are in use\n'
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, problem)
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        """Answer one client until it goes or errs."""
        if self._open >= self._sessions:  # two came at once
            await connection.close(CloseCode.TRY_AGAIN_LATER, 'all sessions are in use')
            return
        self._open += 1
        client = '{}:{}'.format(*connection.remote_address[:2])
        LOG.info('%s connected; sessions: %d of %d', client, self._open, self._sessions)
        try:
            await self._answer_all(connection, client)
        except ConnectionClosed as closed:
            LOG.info('%s: %s', client, closed)
        finally:
            self._open -= 1
            LOG.info('%s left', client)

    async def _answer_all(self, connection: ServerConnection, client: str) -> None:
        loop, session = asyncio.get_running_loop(), PolicySession(self._policy, self._seed)
        await connection.send(pack(self._policy.metadata()))
        async for message in connection:
            answer = await loop.run_in_executor(self._worker, _answer, session, message)
            await connection.send(answer)
            if isinstance(answer, str):
                LOG.warning('%s: %s', client, answer)
                await connection.close(CloseCode.INTERNAL_ERROR, 'the last request cannot be answered')
                return


def _answer(session: PolicySession, message: bytes | str) -> bytes | str:
    """Answer one message; a text says why there is no answer."""
    try:
        if isinstance(message, str):
            return 'the request is a text message; send msgpack in a binary one'
        return pack(session.answer(unpack(message)))
    except (ValueError, RuntimeError, OSError) as error:
        return ' '.join(str(error).split())[:LONGEST_PROBLEM] or type(error).__name__
    except Exception:  # whatever a client sends, the others are served
        LOG.exception('a request could not be answered')
        return 'internal error; the log of the server says more'
