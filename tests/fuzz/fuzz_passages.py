"""From one kind of tensor to another: maps, tokens, vectors, channels last."""

from __future__ import annotations

from fuzz_ops import AXIS, Op, op


class Passage(Op):
    """From one kind of tensor to another."""

    def __init__(self, values, how=""):
        super().__init__()
        self.how, self.tag = how, values[0].tag


@op("to_tokens")
class ToTokens(Passage):
    takes, gives = "IH", "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"how": pick(["flatten", "permute"])}

    def forward(self, x):
        if self.tag == "H":
            return x.flatten(1, 2)
        if self.how == "flatten":
            return x.flatten(2).transpose(1, 2)
        b, c, h, w = x.shape
        return x.permute(0, 2, 3, 1).reshape(b, h * w, c)


@op("to_last")
class ToLast(Passage):
    takes, gives = "I", "H"

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


@op("to_first")
class ToFirst(Passage):
    takes, gives = "H", "I"

    def forward(self, x):
        return x.permute(0, 3, 1, 2)


@op("to_image")
class ToImage(Passage):
    """Tokens as a map of one row."""

    takes, gives = "T", "I"

    def forward(self, x):
        b, t, c = x.shape
        return x.transpose(1, 2).reshape(b, c, 1, t)


@op("to_vector")
class ToVector(Passage):
    takes, gives = "ITH", "V"

    @classmethod
    def choose(cls, pick, value, widths):
        size = value.shape[1] * value.shape[2] * (value.shape[3] if len(value.shape) == 4 else 1)
        return {"how": pick(["mean", "flatten", "view"] if size <= 400 else ["mean"])}

    def forward(self, x):
        if self.how == "mean":
            axis = AXIS[self.tag]
            return x.mean([d for d in range(1, x.dim()) if d != axis])
        return x.flatten(1) if self.how == "flatten" else x.reshape(x.size(0), -1)
