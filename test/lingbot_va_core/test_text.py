"""Text encoders: hashed, MiniLM and UMT5, and the table of known instructions."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertModel, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from lingbot_va_core import minilm
from lingbot_va_core.minilm import MiniLMTextEncoder
from lingbot_va_core.text import HashedTextEncoder, KnownPrompts, TextError, clean, remember
from lingbot_va_core.umt5 import UMT5TextEncoder

ENCODER = HashedTextEncoder(dim=16, length=6)


def test_rows_past_the_text_are_zero() -> None:
    rows = ENCODER.encode('lift the cube')
    assert rows.shape == (6, 16)
    assert rows.dtype == torch.float32
    assert rows[:3].abs().sum(dim=1).min() > 0
    assert not rows[3:].any()
    assert not ENCODER.encode('').any()


def test_text_gives_the_same_rows_everywhere() -> None:
    expected = [1.1911, 0.7803, -0.9129, -0.1081]
    torch.testing.assert_close(ENCODER.encode('cube')[0, :4], torch.tensor(expected), rtol=0, atol=1e-4)


def test_words_and_their_order_matter_but_case_and_punctuation_do_not() -> None:
    rows = ENCODER.encode('Lift the cube!')
    assert torch.equal(rows, ENCODER.encode('  lift the, cube'))
    assert not torch.equal(rows, ENCODER.encode('the lift cube'))
    assert not torch.equal(rows, ENCODER.encode('lift the ball'))


def test_words_past_the_length_are_dropped() -> None:
    assert torch.equal(ENCODER.encode('a b c d e f g h'), ENCODER.encode('a b c d e f'))


@pytest.mark.parametrize(
    ('text', 'cleaned'),
    [
        ('  lift\t the \n cube ', 'lift the cube'),
        ('salt &amp;amp; pepper', 'salt & pepper'),
        ('the robotâ€™s hand', "the robot's hand"),
        ('', ''),
    ],
)
def test_instructions_are_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_minilm_agrees_with_transformers() -> None:
    encoder = MiniLMTextEncoder()
    folder = minilm._folder()
    reference = BertModel.from_pretrained(folder).eval()
    tokens = torch.tensor(encoder._tokenizer.encode('put the red block into the drawer').ids)
    with torch.no_grad():
        expected = reference(tokens[None]).last_hidden_state[0]
    torch.testing.assert_close(minilm.bert(tokens, minilm._weights(folder)), expected, rtol=1e-4, atol=1e-5)


def test_minilm_fills_a_row_for_each_token_and_knows_what_words_mean() -> None:
    encoder = MiniLMTextEncoder(length=8)
    rows = encoder.encode('lift the cube')
    assert rows.shape == (8, 384)
    filled = rows[:5]  # with the marks of begin and end
    torch.testing.assert_close(filled.std(dim=1, unbiased=False), torch.ones(5), rtol=1e-3, atol=0)
    assert not rows[5:].any()
    assert encoder.encode('a b c d e f g h i j k').any(dim=1).all()
    lift, raise_, open_ = (encoder.encode(f'{verb} the cube')[1] for verb in ('lift', 'raise', 'open'))
    assert torch.cosine_similarity(lift, raise_, dim=0) > torch.cosine_similarity(lift, open_, dim=0)


def test_minilm_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, 'PACKAGE', 'no_such_package')
    with pytest.raises(TextError, match='MiniLM is not installed; run pip install'):
        MiniLMTextEncoder().encode('lift the cube')


@pytest.fixture(scope='module')
def umt5_model() -> UMT5EncoderModel:
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=6, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
    return UMT5EncoderModel(config).eval()


@pytest.fixture(scope='module')
def umt5_folder(umt5_model: UMT5EncoderModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released folder's text encoder, tiny and random."""
    folder = tmp_path_factory.mktemp('umt5')
    words = {'<pad>': 0, '</s>': 1, '<unk>': 2, 'lift': 3, 'the': 4, 'cube': 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single='$A </s>', special_tokens=[('</s>', 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='<pad>', eos_token='</s>', unk_token='<unk>'
    ).save_pretrained(folder / 'tokenizer')
    umt5_model.save_pretrained(folder / 'text_encoder', max_shard_size='20KB')
    return folder


def umt5(folder: Path, dim: int = 32) -> UMT5TextEncoder:
    return UMT5TextEncoder(lambda: folder, dim, length=10, dtype=torch.float32)


def test_umt5_gives_the_hidden_states_and_zeros_past_the_true_length(
    umt5_model: UMT5EncoderModel, umt5_folder: Path
) -> None:
    rows = umt5(umt5_folder).encode(' lift  the cube ')
    assert rows.shape == (10, 32)
    with torch.no_grad():
        expected = umt5_model(torch.tensor([[3, 4, 5, 1]])).last_hidden_state[0]
    torch.testing.assert_close(rows[:4], expected, rtol=1e-4, atol=1e-5)
    assert not rows[4:].any()


def test_the_negative_prompt_of_umt5_is_its_end_mark(umt5_folder: Path) -> None:
    rows = umt5(umt5_folder).encode('')
    assert rows[0].any()
    assert not rows[1:].any()


def test_umt5_is_not_looked_for_before_it_is_needed(tmp_path: Path) -> None:
    encoder = umt5(tmp_path)
    with pytest.raises(TextError, match=r'there is no text_encoder in .*; download text_encoder/'):
        encoder.encode('lift the cube')


def test_umt5_of_another_width_is_refused(umt5_folder: Path) -> None:
    with pytest.raises(TextError, match='is 32 wide; this model needs 64'):
        umt5(umt5_folder, dim=64).encode('lift the cube')


def test_known_instructions_need_no_encoder(tmp_path: Path, umt5_folder: Path) -> None:
    known = remember(umt5(umt5_folder), ['lift the cube'])
    assert [len(rows) for rows in known.table.values()] == [4, 1]  # the empty instruction, too
    robot = KnownPrompts(known.table, umt5(tmp_path))
    assert torch.equal(robot.encode('lift   the cube'), umt5(umt5_folder).encode('lift the cube'))
    assert torch.equal(robot.encode(''), umt5(umt5_folder).encode(''))
    with pytest.raises(TextError, match=r"'eat it' is none of the known .*\('lift the cube'\), and there is no text_"):
        robot.encode('eat it')


def test_other_instructions_go_to_the_encoder_where_there_is_one() -> None:
    known = remember(ENCODER, ['lift the cube'])
    assert torch.equal(known.encode('drop the cube'), ENCODER.encode('drop the cube'))
    more = remember(known, ['drop the cube'])
    assert set(more.table) == {'lift the cube', 'drop the cube', ''}
    assert more.encoder is ENCODER


def test_an_embedding_of_another_shape_is_refused() -> None:
    with pytest.raises(TextError, match=r"embedding of 'lift' is \[7, 16\]; it must be \[up to 6, 16\]"):
        KnownPrompts({'lift': torch.zeros(7, 16)}, ENCODER)
