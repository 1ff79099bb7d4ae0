from pytest_triton_perf.domain.names import with_image

OLD, NEW = "registry:5000/nvidia/tritonserver:24.10-py3", "registry:5000/nvidia/tritonserver:25.01"


def test_of_one_image_and_outside_containers_the_variant_says_enough() -> None:
    assert with_image("m_config_0", OLD, [OLD]) == "m_config_0"
    assert with_image("m_config_0", None, [OLD, NEW]) == "m_config_0"


def test_of_several_images_what_differs_is_named() -> None:
    assert with_image("m_config_0", OLD, [OLD, NEW]) == "m_config_0@24.10-py3"
    assert with_image("m_config_0", NEW, [OLD, NEW]) == "m_config_0@25.01"


def test_other_repositories_are_named_and_digests_are_cut_short() -> None:
    images = [f"nvidia/triton@sha256:{'0123456789abcdef' * 4}", "nvidia/triton", "mine/triton:1"]
    assert [with_image("m", image, images) for image in images] == [
        "m@nvidia/triton@sha256:0123456789ab",
        "m@nvidia/triton",
        "m@mine/triton:1",
    ]
