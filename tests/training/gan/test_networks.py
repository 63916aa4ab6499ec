import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from relightgan.core.tiling import run_tiled
from relightgan.training.gan.networks import Convolution, Critic, Downsample, Generator, Upsample

pytestmark = pytest.mark.fits

ONNX_TOLERANCE = 1e-5  # of values in 0..1; measured below 1e-6
FORBIDDEN = (
    nn.Dropout,
    nn.Dropout2d,
    nn.AlphaDropout,
    nn.ConvTranspose2d,
    nn.InstanceNorm2d,
    nn.BatchNorm2d,
    nn.GroupNorm,
)


def small_generator(**settings):
    torch.manual_seed(0)
    return Generator(**{"base_filters": 8, "down_steps": 2, "blocks": 1, **settings}).eval()


def wild(network):
    """The network with a head as strong as a trained one, so that its output isn't its input."""
    with torch.no_grad():
        network.head.weight.mul_(20.0)
    return network


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(7))


@pytest.fixture(params=["blur", "resize"])
def generator(request):
    return wild(small_generator(upsampling=request.param))


def test_full_size_is_the_published_resnet_9():
    network = Generator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_383_171
    assert (network.size_multiple, network.receptive_field_px, network.overlap_px) == (4, 187, 96)


@pytest.mark.parametrize("network", [Generator(16), Critic(16)], ids=["generator", "critic"])
def test_nothing_random_and_nothing_that_normalises_over_the_frame(network):
    assert [type(module).__name__ for module in network.modules() if isinstance(module, FORBIDDEN)] == []
    network.train()
    plate = pictures(2, 3, 48, 48)
    first = network(plate)
    if isinstance(network, Generator):
        assert torch.equal(first, network(plate))


def test_starts_as_nearly_the_identity_and_never_inverted():
    plate = pictures(2, 3, 64, 64)
    with torch.no_grad():
        relit = Generator(16, blocks=4)(plate)
    assert (relit - plate).abs().max() < 0.05
    assert np.corrcoef(relit.flatten(), plate.flatten())[0, 1] > 0.999


def test_output_stays_in_0_to_1_whatever_comes_in(generator):
    with torch.no_grad():
        relit = generator(pictures(1, 3, 32, 32) * 8.0 - 4.0)
    assert relit.min() >= 0.0
    assert relit.max() <= 1.0
    assert torch.isfinite(relit).all()


def test_black_and_white_can_be_changed():
    network = small_generator()
    for level, push in ((0.0, 6.0), (1.0, -6.0)):
        with torch.no_grad():
            network.head.bias.fill_(push)
            assert (network(torch.full((1, 3, 16, 16), level)) - level).abs().min() > 0.3


def test_absolute_exposure_is_not_erased(generator):
    # Normalising over the frame would turn every flat plate into the same features, and so into one change of light.
    with torch.no_grad():
        changes = [
            torch.logit(generator(torch.full((1, 3, 32, 32), level))).mean() - np.log(level / (1 - level))
            for level in (0.2, 0.6)
        ]
    assert abs(changes[0] - changes[1]) > 0.05


@pytest.mark.parametrize("settings", [{}, {"upsampling": "resize"}, {"down_steps": 1}, {"blocks": 2}], ids=str)
def test_reach_is_exactly_what_an_output_pixel_depends_on(settings):
    network = small_generator(**settings).double()
    middle, farthest = 48, 0
    for pixel in range(middle, middle + network.size_multiple):
        plate = pictures(1, 3, 96, 96).double().requires_grad_()
        network(plate)[0, :, pixel, pixel].sum().backward()
        for axis in ((0, 1, 2), (0, 1, 3)):
            seen = plate.grad.abs().sum(axis).nonzero().flatten()
            farthest = max(farthest, pixel - int(seen[0]), int(seen[-1]) - pixel)
    assert network.reach_px == farthest
    assert network.overlap_px > network.reach_px
    assert network.overlap_px % network.size_multiple == 0


def test_a_change_beyond_reach_changes_nothing(generator):
    plate = pictures(1, 3, 96, 96)
    other = plate.clone()
    other[..., 50, :] = 1.0 - other[..., 50, :]
    with torch.no_grad():
        differs = (generator(plate) != generator(other)).any(dim=3).any(dim=1)[0]
    rows = differs.nonzero().flatten()
    assert differs[50]
    assert rows.min() >= 50 - generator.reach_px
    assert rows.max() <= 50 + generator.reach_px


def test_tiles_equal_the_whole_frame(generator):
    def relight(tile):
        with torch.no_grad():
            return generator(torch.from_numpy(np.ascontiguousarray(tile))[None])[0].numpy()

    frame = pictures(3, 150, 203).numpy()
    whole = run_tiled(relight, frame, multiple=4)
    tile_px = 2 * generator.overlap_px + 32
    tiled = run_tiled(relight, frame, tile_px, generator.overlap_px, multiple=4)
    seamed = run_tiled(relight, frame, tile_px, 4, multiple=4)
    assert np.abs(whole - frame).max() > 0.1
    assert np.abs(tiled - whole).max() < 1e-5
    assert np.abs(seamed - whole).max() > 1e-3  # so the test would see a seam


def test_onnxruntime_gives_torchs_numbers_at_any_size(generator, tmp_path):
    path = tmp_path / "generator.onnx"
    program = torch.onnx.export(
        generator,
        (torch.zeros(1, 3, 32, 48),),
        dynamo=True,
        opset_version=18,
        input_names=["plate"],
        output_names=["relit"],
        dynamic_shapes=({0: "n", 2: "h", 3: "w"},),
        verbose=False,
    )
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 96), (2, 3, 44, 76), (3, 3, 8, 20)):  # 11x19 and 2x5 cells: odd multiples of 4
        plate = pictures(*shape)
        with torch.no_grad():
            expected = generator(plate).numpy()
        (relit,) = session.run(None, {"plate": plate.numpy()})
        assert relit.shape == shape
        assert np.abs(expected - plate.numpy()).max() > 0.1
        assert np.abs(relit - expected).max() < ONNX_TOLERANCE


def test_a_picture_in_a_batch_comes_out_as_it_does_alone(generator):
    batch = pictures(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(generator(batch)[1:2], generator(batch[1:2]), atol=1e-6, rtol=0)


def test_downsampling_passes_no_alias():
    layer = Downsample(4, 8)
    grey, stripes = torch.full((1, 4, 32, 32), 0.5), torch.zeros(1, 4, 32, 32)
    stripes[..., ::2] = 1.0
    with torch.no_grad():
        torch.testing.assert_close(layer(stripes)[..., 2:-2], layer(grey)[..., 2:-2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("upsampling", ["blur", "resize"])
def test_upsampling_draws_no_checkerboard(upsampling):
    layer = Upsample(8, 4, upsampling)
    with torch.no_grad():
        assert layer(torch.full((1, 8, 6, 6), 0.7)).std(dim=(2, 3)).max() < 1e-6


def test_a_convolution_mirrors_the_picture_at_its_borders():
    layer = Convolution(1, 1, 3)
    plate = pictures(1, 1, 8, 8)
    mirrored = torch.nn.functional.pad(plate, (1, 1, 1, 1), mode="reflect")
    with torch.no_grad():
        expected = torch.nn.functional.conv2d(mirrored, layer.weight, layer.bias)
        torch.testing.assert_close(layer(plate), expected, atol=1e-6, rtol=0)


def test_critic_judges_patches_of_70_px():
    critic = Critic(8).eval()
    plate = pictures(1, 3, 160, 160).requires_grad_()
    scores, features = critic(plate)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = plate.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert seen[-1] - seen[0] + 1 == 70
    assert [layer.shape[1] for layer in features] == [16, 32, 64]


def test_critic_layers_do_not_grow_what_they_see():
    torch.manual_seed(0)
    critic = Critic(8)
    with torch.no_grad():
        for _ in range(30):  # each call moves the estimate of the norm on
            critic(pictures(1, 3, 32, 32))
    for layer in critic.hidden:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2) == pytest.approx(1.0, abs=0.02)


def test_critic_tells_exposures_apart():
    torch.manual_seed(0)
    critic = Critic(8).eval()
    plate = pictures(1, 3, 48, 48)
    with torch.no_grad():
        assert (critic(plate)[0] - critic(plate * 0.5)[0]).abs().mean() > 0.05
