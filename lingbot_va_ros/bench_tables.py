"""What `lingbot-va bench` measured, as tables for the terminal and for a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Numbers = Mapping[str, Any]
NONE = '-'
_WITHOUT = {
    'without_text': 'text once',
    'without_time': 'time once per frame',
    'without_rows': 'actions in one row',
    'without_rotary': 'rotary in float32, kept',
}


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> list[str]:
        """Return the lines of the table, title above it."""
        cells = [self.columns, ('---',) * len(self.columns), *self.rows]
        return [f'*{self.title}*', '', *(f'| {" | ".join(row)} |' for row in cells)]


def sheets(what: str, measured: Sequence[Numbers]) -> list[Sheet]:
    """Return the tables of several measurements of one kind: 'chunk', 'cache', 'vae', 'train', 'nodes' or 'convert'."""
    return _SHEETS[what](measured)


def show(tables: Sequence[Sheet]) -> None:
    """Print tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for sheet in tables:
        upright = len(sheet.rows) == 1 and len(sheet.columns) > 4
        table = Table(*(() if upright else sheet.columns), title=sheet.title, show_header=not upright)
        for row in zip(sheet.columns, sheet.rows[0], strict=True) if upright else sheet.rows:
            table.add_row(*row)
        console.print(table)


def _chunk(measured: Sequence[Numbers]) -> list[Sheet]:
    columns = ('model', 'tokens x K', 'forwards', 'guidance', 'type', 'ours', 'of motion', 'released way', 'ratio',
               'roofline', 'reached', 'difference')  # fmt: skip
    cycles, parts = [], []
    for each in measured:
        tokens, forwards, guidance = each['tokens_per_latent_frame'], each['forwards'], each['guidance']
        baseline, difference, roofline = each.get('baseline'), each.get('difference'), each['roofline']
        name = each['preset'] + ', compiled' * each.get('compiled', False)
        cycles.append((
            name,
            f'({tokens["video"]} + {tokens["action"]}) x {each["chunk_frames"]}, window {each["window_tokens"]}',
            f'{forwards["ground"]} + {forwards["video"]} + {forwards["action"]}',
            f'{guidance["video"]:g}/{guidance["action"]:g}',
            each['dtype'],
            _ms(each['ours']['cycle_ms']['p50']),
            f'{100 * each["share_of_motion"]:.0f} %',
            _ms(baseline['cycle_ms']['p50']) if baseline else NONE,
            f'{each["speedup"]:.1f}' if baseline else NONE,
            _ms(roofline['cycle']['ms']),
            f'{100 * each["of_roofline"]:.0f} %',
            f'{max(difference["latents"], difference["actions"]):.0e}' if difference else NONE,
        ))  # fmt: skip
        for way in ('ours', 'baseline'):
            if way in each:
                times = [_ms(each[way][f'{part}_ms']['p50']) for part in ('encode', 'ground', 'video', 'action')]
                parts.append((name, 'ours' if way == 'ours' else 'released way', *times))
        parts.append(
            (name, 'roofline', *(_ms(roofline[part]['ms']) for part in ('encode', 'ground', 'video', 'action')))
        )
    work = [
        (each['preset'], f'{each["roofline"]["cycle"]["gflop"]:.1f}', f'{each["roofline"]["cycle"]["gbyte"]:.2f}',
         f'{each["roofline"]["gflop_per_s"]:.0f}', f'{each["roofline"]["gbyte_per_s"]:.1f}',
         f'{each["memory_mib"]:.0f}')
        for each in measured
    ]  # fmt: skip
    spared = [
        (each['preset'], each['dtype'], *(_ms(each[way]['cycle_ms']['p50']) for way in ('baseline', *_WITHOUT)))
        for each in measured
        if 'baseline' in each and all(way in each for way in _WITHOUT)
    ]
    columns_spared = ('model', 'type', 'released way', *_WITHOUT.values())
    ablation = [Sheet('The released way without one of its overheads, p50', columns_spared, spared)] if spared else []
    return [
        Sheet('A cycle with the window full, p50', columns, cycles),
        Sheet('Its parts, p50', ('model', '', 'encode', 'ground', 'video', 'actions'), parts),
        Sheet('Work and ceilings', ('model', 'GFLOP', 'GB', 'GFLOP/s reached by a product', 'GB/s by a copy', 'MiB'),
              work),
        *ablation,
    ]  # fmt: skip


def _cache(measured: Sequence[Numbers]) -> list[Sheet]:
    columns = ('windows', 'latent frames', 'ours', 'against the first', 'without a window', 'against the first')
    return [
        Sheet(
            f'A video forward of {each["preset"]} ({each["dtype"]}) by length of the history, p50; '
            f'{each["bytes_per_token"]} bytes a token, {each["window_mib"]:.1f} MiB the window',
            columns,
            [
                (
                    str(row['windows']),
                    str(row['history_frames']),
                    _ms(row['ours_ms']['p50']),
                    f'{row["ratio"]["ours"]:.2f}',
                    _ms(row['baseline_ms']['p50']),
                    f'{row["ratio"]["baseline"]:.2f}',
                )
                for row in each['histories']
            ],
        )
        for each in measured
    ]


def _vae(measured: Sequence[Numbers]) -> list[Sheet]:
    columns = ('VAE', 'view', 'latents', 'newest latent, stream', 'newest latent, clip', 'ratio', 'frame, stream',
               'frame, clip', 'difference')  # fmt: skip
    rows = [
        (
            each['vae'],
            f'{each["height"]}x{each["width"]}',
            str(each['latent_frames']),
            *(_ms(each['newest_latent_ms'][way]) for way in ('ours', 'baseline')),
            f'{each["speedup"]:.1f}',
            *(_ms(each['frame_ms'][way]) for way in ('ours', 'baseline')),
            f'{each["difference"]["latents"]:.0e}',
        )
        for each in measured
    ]
    return [Sheet('Encoding one camera, p50', columns, rows)]


def _train(measured: Sequence[Numbers]) -> list[Sheet]:
    columns = ('processes', 'step', 'tokens/s', 'against the first', 'MiB of a process')
    return [
        Sheet(
            f'Training {each["preset"]}: {each["batch"]} clips of {each["latent_frames"]} latent frames, '
            f'{each["tokens_per_step"]} tokens, {each["precision"]}, {each["threads"]} threads in all',
            columns,
            [
                (
                    str(row['processes']),
                    _ms(row['step_ms']['p50']),
                    f'{row["tokens_per_s"]:.0f}',
                    f'{row["scaling"]:.2f}',
                    f'{row["memory_mib"]:.0f}',
                )
                for row in each['counts']
            ],
        )
        for each in measured
    ]


def _nodes(measured: Sequence[Numbers]) -> list[Sheet]:
    from lingbot_va_ros.latency_stages import OWN, STAGES

    found = []
    for numbers in measured:
        own = ', '.join(OWN)
        stages = {**STAGES, 'total': 'all of it', 'own': own, 'without_model': f'camera, {own}'}
        times = [('timer alone, nothing else running', *_spread(numbers['baseline']['timer_period_ms']))]
        times.append(('command period', *_spread(numbers['command_period_ms'])))
        recording = numbers.get('recording')
        if recording:
            times.append(('command period while recording', *_spread(recording['command_period_ms'])))
        for part in ('latency', 'grounding', 'video', 'action'):
            times.append((f'chunk {part}', *_spread(numbers[f'chunk_{part}_ms'])))
        path = [
            (f'{name}: {meaning}', *_spread(numbers['stages_ms'][name]))
            for name, meaning in stages.items()
            if name in numbers['stages_ms']
        ]
        rates = {'commands': (numbers['command_rate_hz'], ''), 'latents': (numbers['latents_rate_hz'], '')}
        rates |= {name: (camera['rate_hz'], str(camera['lost'])) for name, camera in numbers['cameras'].items()}
        streams = [(name, NONE if rate is None else f'{rate:.2f}', lost) for name, (rate, lost) in rates.items()]
        processes = [
            (name, f'{own["cpu_percent"]:.0f}', f'{own["memory_mib"]:.0f}', f'{own["memory_growth_mib"]:+.1f}')
            for name, own in numbers['nodes'].items()
        ]
        title = f'{numbers["robot"]}, {numbers["mode"]}, {numbers["seconds"]:g} s, {numbers["cores"]} cores'
        latency, motion = numbers['chunk_latency_ms']['p50'], numbers['chunk_motion_ms']
        share = f', latency {100 * latency / motion:.0f} % of it' if latency and motion else ''
        chunks = f'{numbers["chunks"]} chunks of {motion:.0f} ms{share}'
        found += [
            Sheet(f'{title}: {chunks}, {numbers["images_per_s"]:.1f} images/s', ('ms', 'p50', 'p99', 'max'), times),
            Sheet('From the newest image to the first command of a chunk, ms', ('', 'p50', 'p99', 'max'), path),
            Sheet('Rates', ('stream', 'Hz', 'lost'), streams),
            Sheet('Processes', ('process', '% of a core', 'MiB', 'growth'), processes),
        ]
        if recording:
            found.append(_recording(recording))
    return found


def _recording(numbers: Numbers) -> Sheet:
    recorder, lost = numbers['recorder'], numbers['lost'].values()
    row = (
        str(numbers['messages']),
        f'{numbers["bytes"] / 2**20:.0f} MiB',
        str(sum(numbers['dropped'].values())),
        ' + '.join(str(count) for count in lost),
        f'{recorder["cpu_percent"]:.0f}',
        f'{recorder["memory_mib"]:.0f}',
    )
    columns = ('messages', 'bag', 'dropped', 'images lost', '% of a core', 'MiB')
    return Sheet(f'Recording everything, and {len(lost)} more cameras of 640 x 480 at 30 Hz', columns, [row])


def _convert(measured: Sequence[Numbers]) -> list[Sheet]:
    columns = ('bag', 'size', 'processes', 'time', 'CPU time', 'largest memory')
    rows = [
        (
            f'{each["bag_s"]:g} s',
            f'{each["bag_bytes"] / 2**20:.0f} MiB',
            str(each['workers']),
            f'{each["wall_s"]:.1f} s',
            f'{each["cpu_s"]:.1f} s',
            f'{each["peak_mib"]:.0f} MiB',
        )
        for each in measured
    ]
    return [Sheet('Conversion of three cameras of 320 x 256 at 30 Hz', columns, rows)]


def _ms(value: float) -> str:
    """Three digits, milliseconds or seconds."""
    return f'{value / 1e3:.3g} s' if value >= 9999.5 else f'{value:.0f} ms' if value >= 99.5 else f'{value:.3g} ms'


def _spread(values: Mapping[str, float | None]) -> tuple[str, ...]:
    return tuple(NONE if values[key] is None else f'{values[key]:.1f}' for key in ('p50', 'p99', 'max'))


_SHEETS: dict[str, Callable[[Sequence[Numbers]], list[Sheet]]] = {
    'chunk': _chunk,
    'cache': _cache,
    'vae': _vae,
    'train': _train,
    'nodes': _nodes,
    'convert': _convert,
}
