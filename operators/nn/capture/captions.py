"""What captures are called: sentences in many wordings, true of a kind and of its subkind.

For aligning an image with a text tower: many wordings of one fact keep what is learned
from hanging on a single one. Captions name what is seen, never the simulator. A general one ("a
printed face") is true of every subkind, a particular one ("an inkjet print") of its own only.
"""

from __future__ import annotations

from collections.abc import Mapping

from operators.nn.capture.mask3d import MaskParameters
from operators.nn.capture.print import PrintParameters
from operators.nn.capture.scene import Capture, Kind
from operators.nn.capture.screen import ScreenParameters

FRAMES = (
    "a photo of {}",
    "a picture of {}",
    "a close-up photo of {}",
    "a camera image of {}",
    "{}",
    "this is {}",
    "an image showing {}",
    "a cropped photo of {}",
)
GENERAL: Mapping[Kind, tuple[str, ...]] = {
    "bonafide": (
        "a real face",
        "a live person",
        "a genuine human face",
        "a real person in front of the camera",
        "a bona fide face",
        "a living face with natural skin",
        "a real human face with pores and fine wrinkles",
        "an authentic face",
    ),
    "print": (
        "a printed photo of a face",
        "a face printed on paper",
        "a paper print of a face held before the camera",
        "a print attack",
        "a spoof face on a sheet of paper",
    ),
    "replay": (
        "a face shown on a screen",
        "a face replayed on a display",
        "a replay attack",
        "a screen that shows a face",
        "a spoof face on an electronic display",
    ),
    "mask3d": (
        "a person wearing a 3D mask",
        "a face covered by a mask with eye holes",
        "a 3D mask attack",
        "an artificial face mask over a real face",
        "a spoof face made as a 3D mask",
    ),
}
PARTICULAR: Mapping[str, tuple[str, ...]] = {
    "face": (),
    "laser": (
        "a laser print of a face",
        "a face printed by an office laser printer",
        "a halftone print of a face in toner on copy paper",
        "a face on paper with a visible halftone screen",
    ),
    "inkjet": (
        "an inkjet print of a face",
        "a face printed with ink on plain paper",
        "a dull inkjet picture of a face on matte paper",
        "a face printed by an inkjet printer",
    ),
    "photo": (
        "a glossy photo print of a face",
        "a face on photographic paper with a highlight",
        "a printed photograph of a face on glossy paper",
        "a shiny paper photo of a face",
    ),
    "magazine": (
        "a face on a magazine page",
        "a face printed in a newspaper",
        "an offset print of a face with small halftone dots",
        "a portrait cut out of a magazine",
    ),
    "phone": (
        "a face on a phone screen",
        "a mobile phone that shows a face",
        "a smartphone held up with a face on it",
        "a face replayed on a smartphone",
    ),
    "tablet": (
        "a face on a tablet screen",
        "a tablet that shows a face",
        "a tablet computer held up with a face on it",
        "a face replayed on a tablet",
    ),
    "laptop": (
        "a face on a laptop screen",
        "a laptop that shows a face",
        "a video of a face on a laptop display",
        "a face replayed on a notebook computer",
    ),
    "monitor": (
        "a face on a computer monitor",
        "a monitor that shows a face",
        "a desktop screen with the face of a person",
        "a face replayed on a desktop display",
    ),
    "latex": (
        "a person wearing a latex mask",
        "a rubber mask over a face",
        "a latex face mask with cut-out eyes",
        "a face hidden under a dull latex mask",
    ),
    "silicone": (
        "a person wearing a silicone mask",
        "a soft silicone mask over a face",
        "a realistic silicone face mask",
        "a face hidden under a flesh-coloured silicone mask",
    ),
    "resin": (
        "a person wearing a hard resin mask",
        "a glossy 3D-printed mask over a face",
        "a rigid plastic mask with a shiny surface",
        "a face hidden under a painted resin mask",
    ),
    "paper": (
        "a person wearing a paper mask",
        "a folded paper mask over a face",
        "a cardboard mask with eye holes",
        "a face hidden under a paper craft mask",
    ),
}
SEEN = {
    "edge": "a printed face with the edge of the paper in view",
    "held": "a hand that holds a picture of a face",
    "shine": "a picture of a face with a bright reflection on its surface",
    "bezel": "a face inside the frame of a screen",
    "glare": "a face behind glare on glass",
    "open": "a mask with holes for eyes and mouth",
    "closed": "a mask with holes for the eyes and a closed mouth",
}
IN_VIEW_EYES = 2.4  # margins below this many eye distances are inside a usual face crop
SHINY, GLARING = 0.2, 0.15  # highlights by white, mirror image by the panel's white


def captions(capture: Capture) -> tuple[str, ...]:
    """Sentences that are true of a capture, at least twelve, without repeats, in a fixed order."""
    nouns = (*PARTICULAR[capture.subkind], *_details(capture), *GENERAL[capture.kind])
    framed = [FRAMES[place % len(FRAMES)].format(noun) for place, noun in enumerate(nouns)]
    again = [FRAMES[(place + 3) % len(FRAMES)].format(noun) for place, noun in enumerate(nouns)]
    return tuple(dict.fromkeys([*framed, *again]))


def _details(capture: Capture) -> list[str]:
    """What is in view of this capture only."""
    attack = capture.attack
    if attack is None:
        return []
    if isinstance(attack, MaskParameters):
        return [SEEN["open" if attack.mouth_open else "closed"]]
    bordered = min(attack.margin_x, attack.margin_y) < IN_VIEW_EYES
    found = [SEEN["held"]] if attack.thumb and bordered else []
    if isinstance(attack, PrintParameters):
        found += [SEEN["edge"]] if bordered else []
        return found + ([SEEN["shine"]] if attack.gloss > SHINY else [])
    return (
        found + ([SEEN["bezel"]] if bordered else []) + ([SEEN["glare"]] if _glares(attack) else [])
    )


def _glares(shown: ScreenParameters) -> bool:
    """Whether a lamp's mirror image lies over the face, and is bright enough to be seen."""
    near = max(abs(shown.lamp_x), abs(shown.lamp_y)) < shown.lamp_size + 0.3
    return near and shown.reflectance * shown.lamp_luminance > GLARING * shown.luminance
