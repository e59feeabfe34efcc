"""Whether a module keeps something from one call to the next: an engine would forget it.

Told by the exported graph: where it writes at all, it is made functional, and its signature then
names what outlasts a call (torch.export, "ExportGraphSignature").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.export.graph_signature import OutputKind

KINDS = {
    OutputKind.BUFFER_MUTATION: "the module keeps state in buffer '{}': an engine would forget it",
    OutputKind.PARAMETER_MUTATION: "the module changes its parameter '{}': an engine would not",
    OutputKind.USER_INPUT_MUTATION: "the module writes into its input '{}': an engine would not",
}
CONSTANT = "the module keeps state in a tensor that is no buffer ({}): an engine would forget it"


def what_outlasts(program: torch.export.ExportedProgram, names: Sequence[str]) -> str:
    """What a call leaves behind, as a sentence; empty where it leaves nothing. `names` are those of
    the inputs, in order.
    """
    if not _writes(program):
        return ""
    try:
        signature = program.run_decompositions({}).graph_signature
    except RuntimeError as error:
        if "mutated" not in str(error):
            raise
        return CONSTANT.format(str(error).splitlines()[0].rstrip("."))
    called = dict(zip(signature.user_inputs, names, strict=True))
    for spec in signature.output_specs:
        if spec.kind in KINDS:
            target = str(spec.target)
            return KINDS[spec.kind].format(called.get(target, target.removeprefix("module.")))
    return ""


def _writes(program: torch.export.ExportedProgram) -> bool:
    """Whether any operation of the graph writes in place, be it only into what it has made."""
    return any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        for part in program.graph_module.modules()
        if isinstance(part, torch.fx.GraphModule)
        for node in part.graph.nodes
    )
