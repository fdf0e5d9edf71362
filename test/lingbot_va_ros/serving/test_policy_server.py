"""The policy server as its clients see it: over the wire, beside others, and when what they send is wrong."""

import http.client
import random
import threading
from collections.abc import Iterator

import msgpack
import numpy as np
import pytest
import torch
from policy_client import (
    PATIENCE_S,
    PolicyClient,
    ServerError,
    encode,
    pictures,
    play,
    released_model,
    serving,
    small_model,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.presets import ROLLOUTS
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_ros.serving.policy_server import PolicyServer
from lingbot_va_ros.serving.policy_session import Policy

SIZE = (40, 48)  # of the images that clients send; the server resizes them
CAMERAS = ('head', 'wrist')


@pytest.fixture(scope='module')
def policy() -> Policy:
    """A model that takes milliseconds."""
    rollout = RolloutConfig(32, 32, 'width', 2, 2, 4, 2, 2, 8, video_guidance=5.0)
    channels = (28, 0, 1)
    return Policy(small_model(rollout, channels), CAMERAS, channels)


@pytest.fixture(scope='module')
def port(policy: Policy) -> Iterator[int]:
    """Where that model is served."""
    with serving(PolicyServer(policy, sessions=32)) as port:
        yield port


@pytest.mark.parametrize(('name', 'shape'), [('robotwin', (16, 2, 16)), ('libero', (7, 4, 4)), ('franka', (16, 4, 20))])
def test_a_client_completes_the_cycle_of_a_released_configuration(name: str, shape: tuple[int, ...]) -> None:
    chosen = ROLLOUTS[name]
    policy = Policy(released_model(name), chosen.cameras, chosen.channels)
    with serving(PolicyServer(policy)) as port, PolicyClient(port) as client:
        assert client.metadata['cameras'] == list(chosen.cameras)
        assert client.metadata['relative_poses'] is (True if name == 'robotwin' else None)
        chunks = play(client, 'stack the bowls', (120, 160))
    low, high = (
        np.array(values)[list(chosen.channels)] for values in (policy.model.normalizer.q01, policy.model.normalizer.q99)
    )
    for action in chunks:
        assert (action.shape, action.dtype) == (shape, np.float32)
        assert np.isfinite(action).all()
    middle = np.broadcast_to((low + high)[:, None] / 2, (shape[0], shape[2]))
    np.testing.assert_allclose(chunks[0][:, 0], middle, atol=1e-5)  # zero in normalised space, not executed
    assert not np.array_equal(chunks[0], chunks[1])


def test_actions_are_those_of_the_session_in_the_order_of_the_channels(policy: Policy, port: int) -> None:
    with PolicyClient(port) as client:
        first, second = play(client, 'tidy up', SIZE)
    frames = [[frame[camera] for camera in CAMERAS] for frame in pictures(list(CAMERAS), SIZE, 17)]
    session, encoder = Session(policy.model), StreamingEncoder(policy.model.vae, policy.model.config.rollout)
    session.start('tidy up')
    session.observe(0, encoder.encode(frames[:1])[0])
    chunk = session.predict()
    assert np.array_equal(first[:, 1:], chunk.actions[..., list(policy.channels)].transpose(2, 0, 1))
    session.observe(1, encoder.encode(frames[1:5])[0])
    session.executed(1, chunk.actions[0])
    assert np.array_equal(second, session.predict().actions[..., list(policy.channels)].transpose(2, 0, 1))


def test_two_clients_at_once_get_what_each_gets_alone(port: int) -> None:
    def episode(client: PolicyClient, number: int) -> list[np.ndarray]:
        return play(client, f'task {number}', SIZE, cycles=3, seed=number)

    alone, together = [], [[], []]
    for number in range(2):
        with PolicyClient(port) as client:
            alone.append(episode(client, number))
    with PolicyClient(port) as one, PolicyClient(port) as other:
        threads = [
            threading.Thread(target=lambda c=client, n=number: together[n].extend(episode(c, n)))
            for number, client in enumerate((one, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert np.array_equal(alone, together)
    assert not np.array_equal(alone[0], alone[1])


def test_requests_of_two_clients_may_alternate(port: int) -> None:
    first, size = pictures(list(CAMERAS), SIZE, 1), SIZE
    with PolicyClient(port) as client:
        alone = play(client, 'a task', size, cycles=1)[0]
    with PolicyClient(port) as one, PolicyClient(port) as other:
        one.infer(reset=True, prompt='a task')
        other.infer(reset=True, prompt='another task')
        other.infer(obs=pictures(list(CAMERAS), size, 1, seed=7)[0], prompt='another task')
        assert np.array_equal(one.infer(obs=first[0], prompt='a task')['action'], alone)


def test_a_reset_midway_begins_anew(port: int) -> None:
    with PolicyClient(port) as client:
        fresh = play(client, 'fold', SIZE)
        client.infer(obs=pictures(list(CAMERAS), SIZE, 1)[0], prompt='fold')  # a chunk that is never fed back
        assert np.array_equal(play(client, 'fold', SIZE), fresh)


def test_another_prompt_holds_from_the_next_chunk_on(port: int) -> None:
    frame = pictures(list(CAMERAS), SIZE, 1)
    with PolicyClient(port) as client:
        client.infer(reset=True, prompt='fold')
        changed = client.infer(obs=frame, prompt='unfold')['action']  # one frame may also come as a list
        client.infer(reset=True, prompt='unfold')
        assert np.array_equal(client.infer(obs=frame[0])['action'], changed)


def test_chunks_of_one_latent_frame_begin_with_the_given_one() -> None:
    rollout = RolloutConfig(32, 32, 'width', 2, 1, 4, 2, 2, 8)
    with serving(PolicyServer(Policy(small_model(rollout, (0,)), CAMERAS, (0,)))) as port, PolicyClient(port) as client:
        chunks = play(client, 'go', SIZE, cycles=3)
    assert [chunk.shape for chunk in chunks] == [(1, 1, 4)] * 3
    assert len(np.unique(chunks[0])) == 1
    assert len(np.unique(chunks[1:])) > 1


FRAME = pictures(list(CAMERAS), SIZE, 1)[0]
SEEN = pictures(list(CAMERAS), SIZE, 4)
STATE = np.zeros((3, 2, 4), np.float32)
FEEDBACK = {'obs': SEEN, 'compute_kv_cache': True, 'state': STATE}


@pytest.mark.parametrize(
    ('before', 'request_', 'problem'),
    [
        (0, {'obs': FRAME, 'prompt': 'a'}, 'no episode is running'),
        (0, FEEDBACK, 'no episode is running'),
        (0, {'reset': True}, 'prompt is NoneType'),
        (0, {'reset': True, 'prompt': 'a' * 5000}, 'prompt is 5000 characters long'),
        (0, {'reset': 'yes', 'prompt': 'a'}, 'reset is str; it must be true or false'),
        (1, FEEDBACK, 'no chunk was predicted'),
        (1, {'obs': [FRAME, FRAME]}, 'obs has 2 frames; the first chunk needs exactly one'),
        (1, {'prompt': 'a'}, 'a frame of obs is NoneType'),
        (1, {'obs': {'head': FRAME['head']}}, "the image 'wrist' is missing"),
        (1, {'obs': {**FRAME, 'wrist': FRAME['wrist'][0]}}, r"'wrist' is uint8 \[48, 3\]; give uint8 RGB"),
        (1, {'obs': {**FRAME, 'wrist': FRAME['wrist'].astype('f4')}}, r"'wrist' is float32"),
        (1, {'obs': {**FRAME, 'head': np.zeros((0, 9, 3), np.uint8)}}, 'each side must have from 1'),
        (2, {'obs': FRAME}, 'the last chunk was not fed back'),
        (2, FEEDBACK | {'obs': SEEN[:3]}, r'obs has 3 frames; feedback on latent frames \[1\] needs a list of 4'),
        (2, FEEDBACK | {'obs': FRAME}, 'obs has dict'),
        (2, FEEDBACK | {'state': STATE[:, :1]}, r'state is float32 \[3, 1, 4\]; it must be numbers \[3, 2, 4\]'),
        (2, FEEDBACK | {'state': STATE.tolist()}, 'state is list'),
        (2, FEEDBACK | {'state': STATE + np.nan}, 'a value is not finite'),
        (2, FEEDBACK | {'state': STATE.astype(float) + 1e300}, 'a value is not finite'),
    ],
)
def test_what_cannot_be_answered_is_answered_with_a_text_and_1011(
    port: int, before: int, request_: dict, problem: str
) -> None:
    with PolicyClient(port) as client:
        if before > 0:
            client.infer(reset=True, prompt='a')
        if before > 1:
            client.infer(obs=FRAME)
        with pytest.raises(ServerError, match=problem) as info:
            client.infer(**request_)
        assert '\n' not in str(info.value)
        with pytest.raises(ConnectionClosed) as closed:
            client.socket.recv(PATIENCE_S)
        assert closed.value.rcvd.code == 1011


def malformed(source: random.Random, before: int) -> bytes | str:
    """One of many kinds of wrong message, after so many requests."""
    good = encode(REQUESTS[before])
    array = {b'__ndarray__': True, b'data': b'1234', b'dtype': '<f4', b'shape': [1]}
    cut = source.randrange(1, len(good))
    kinds = [
        lambda: source.randbytes(source.randrange(200)),
        lambda: good[:cut],
        lambda: good + source.randbytes(3),
        lambda: bytes([source.choice([0xDC, 0xDD, 0xC6, 0xDB, 0xDF, 0xC9])]) + b'\xff' * 4 + good[:20],
        lambda: source.choice([b'\x91', b'\x81\xa1a']) * source.choice([300, 3000, 30000]),
        lambda: b'\x81\xa5reset' + b'\x91' * 1000 + b'\xc0',  # as deep as can be read
        lambda: b'\xdd\x00\x0f\xff\xff' + b'\x90' * 0xFFFFF,  # a million lists
        lambda: source.choice(['text', '{}', '\0']),
        lambda: encode(source.choice([None, [], 5, 'reset', [{'reset': True}], {'reset': True, 'prompt': b'a'}])),
        lambda: encode(
            {'obs': {**array, b'dtype': source.choice(['|O', '|V4', '<M8[s]', 'f4,f4', '', 'x', '|S4', 4])}}
        ),
        lambda: encode(
            {'obs': {**array, b'shape': source.choice([[-1], [2], [1 << 62, 1 << 62], 'a', [1] * 99, [1.0]])}}
        ),
        lambda: encode({'obs': {**array, b'data': source.choice([None, 'text', 4, [1]])}}),
        *[lambda: encode(replaced(source, REQUESTS[before]))] * 12,
    ]
    return source.choice(kinds)()


REQUESTS = [{'reset': True, 'prompt': 'a'}, {'obs': FRAME, 'prompt': 'a'}, FEEDBACK]
NESTED: list = []
for _ in range(500):  # msgpack writes no deeper ones
    NESTED = [NESTED]
JUNK = [
    *(None, True, False, 0, -1, 2**64 - 1, 1e308, float('nan'), '', '\0\n', 'a' * 5000, b'reset', [], {}, NESTED),
    *(msgpack.Timestamp(1), msgpack.ExtType(5, b'1'), [FRAME], [None] * 4, [{}] * 4, [[FRAME]] * 4, {'head': 1}),
    *(np.array(1.0), np.zeros(0), np.zeros((3, 0, 4)), np.zeros((40, 48, 4), np.uint8), np.zeros((1, 1, 3), np.uint8)),
    *(np.zeros((9000, 1, 3), np.uint8), FRAME['head'][..., :1], FRAME['head'] > 9, FRAME['head'].astype('>u2')),
    *(STATE + np.nan, STATE - np.inf, STATE + 3e38, STATE.astype(float) - 1e300, STATE > 0, STATE.T, STATE[None]),
    *(np.full(STATE.shape, 2**64 - 1), STATE.astype('>f2')),
]


def replaced(source: random.Random, request: dict) -> dict:
    """The same with something else in the place of one value."""
    request, junk = dict(request), source.choice(JUNK)
    if 'obs' in request and source.random() < 0.4:
        frame = {**FRAME, source.choice(CAMERAS): junk}
        request['obs'] = frame if request['obs'] is FRAME else source.sample([*SEEN[:3], frame], 4)
    else:
        request[source.choice(['reset', 'prompt', 'obs', 'state', 'compute_kv_cache'])] = junk
    return request


def test_a_thousand_malformed_messages_leave_the_server_answering(port: int) -> None:
    source, client, answers = random.Random(0), None, []
    requests_before = (0, 1, 0, 1, 1, 2)  # a malformed one: nothing, a reset, a reset and an inference
    with PolicyClient(port) as bystander:
        before = play(bystander, 'go on', SIZE)
        for number in range(1000):
            if client is None:
                client, done = PolicyClient(port), requests_before[number % 6]
                for request in REQUESTS[:done]:
                    client.infer(**request)
            client.socket.send(malformed(source, done))
            answers.append(client.socket.recv(PATIENCE_S))
            if isinstance(answers[-1], str):
                client.socket.close()
                client = None
        if client is not None:
            client.socket.close()
        assert [chunk.tolist() for chunk in play(bystander, 'go on', SIZE)] == [chunk.tolist() for chunk in before]
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert not [text for text in refused if '\n' in text or 'internal error' in text or 'recursion' in text]
    assert len(refused) > 700  # others were not malformed enough
    for reached in ('prompt is', 'a frame of obs is', "the image 'wrist' is", 'obs has', 'state is', 'a value is not'):
        assert any(reached in text for text in refused), reached


def test_a_message_above_the_limit_is_refused(policy: Policy) -> None:
    with serving(PolicyServer(policy, message_mib=1)) as port:
        with PolicyClient(port) as client:
            with pytest.raises(ConnectionClosed) as closed:
                client.infer(obs=np.zeros(2**20, np.uint8))
            assert closed.value.rcvd.code == 1009
        with PolicyClient(port) as client:
            assert client.infer(reset=True, prompt='a') == {}


@pytest.mark.parametrize('given', [None, 'guess', 'secretx', 'Secret'])
def test_only_who_has_the_api_key_is_served(policy: Policy, given: str | None) -> None:
    with serving(PolicyServer(policy, api_key='secret')) as port:
        with pytest.raises(InvalidStatus) as refused:
            PolicyClient(port, given)
        assert refused.value.response.status_code == 401
        with PolicyClient(port, 'secret') as client:
            assert client.infer(reset=True, prompt='a') == {}


def test_web_pages_are_refused(port: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f'ws://127.0.0.1:{port}', origin='https://example.com', proxy=None)
    assert refused.value.response.status_code == 403


def test_sessions_are_limited_and_become_free(policy: Policy) -> None:
    with serving(PolicyServer(policy, sessions=1)) as port:
        with PolicyClient(port), pytest.raises(InvalidStatus) as refused:
            PolicyClient(port)
        assert refused.value.response.status_code == 503
        assert 'all 1 sessions' in refused.value.response.body.decode()
        while True:  # the first one's place becomes free when the server has seen it go
            try:
                client = PolicyClient(port)
                break
            except InvalidStatus:
                continue
        with client:
            assert client.infer(reset=True, prompt='a') == {}


class SlowText:
    """Encodes an instruction when it is allowed to."""

    length, dim = 8, 16

    def __init__(self) -> None:
        self.asked, self.allowed = threading.Event(), threading.Event()

    def encode(self, instruction: str) -> torch.Tensor:
        self.asked.set()
        assert self.allowed.wait(PATIENCE_S)
        return torch.zeros(self.length, self.dim)


def test_health_and_new_clients_are_answered_while_the_model_is_busy() -> None:
    model, text = small_model(RolloutConfig(32, 32, 'width', 2, 2, 4, 2, 2, 8), (0,)), SlowText()
    model.text = text
    with serving(PolicyServer(Policy(model, CAMERAS, (0,)))) as port, PolicyClient(port) as client:
        client.socket.send(encode({'reset': True, 'prompt': 'a'}))
        assert text.asked.wait(PATIENCE_S)
        web = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE_S)
        web.request('GET', '/healthz')
        assert web.getresponse().status == 200
        with PolicyClient(port) as other:
            assert other.metadata['action_shape'] == [1, 2, 4]
        text.allowed.set()
        assert client.socket.recv(PATIENCE_S) == encode({})


def test_clients_are_told_when_the_server_goes_away(policy: Policy) -> None:
    with serving(PolicyServer(policy)) as port:
        client = PolicyClient(port)
    with pytest.raises(ConnectionClosed) as closed:
        client.socket.recv(PATIENCE_S)
    assert closed.value.rcvd.code == 1001
