"""How runs of an experiment will be judged, written before the first of them."""

RATIO = (
    "the effect is the median over problems of the ratio of iterations to those of the Standard "
    "run of the same problem and seed, with a 95 % bootstrap interval over problems. Iterations "
    "are counted to the first check at which the problem is answered correctly, at most 100; a "
    "problem that neither run solves is a tie in the sign test and has no ratio, and one that the "
    "untrained prompt solves is left out."
)
"""What `sham`, `learning-rate`, `recipes` and `force` have in common."""
RULES = {
    "paper-length": "The claims about the phenomenon are judged once more under protocol `paper` "
    "over its 300 epochs, by the rules they have under `tuned`; `density-minimal` and "
    "`entropy-early` are decided here, because the first depends on the learning rate and the "
    "second on where the warm-up ends. The verdicts under `tuned` stay beside them.",
    "sham": "TSLoss's direction matters for speed if the interval of the ratio of TSLoss's "
    "iterations to the sham's excludes 1; it does not if the interval lies between 0.9 and 1.1; "
    "otherwise this is undecided. Its direction matters for loops if, at the last check, TSLoss "
    "has more loops than the sham in more problems than fewer, or the reverse, by a two-sided "
    "sign test (p < 0.05).",
    "rounding": "The noise floor is, for each problem, the median of the absolute differences in "
    "iterations between the planned run and the three others; over problems, its median with the "
    "interval from order statistics. An effect on iterations exceeds the floor if the absolute "
    "difference it makes is larger than the problem's own floor in more problems than smaller, by "
    "a two-sided sign test (p < 0.05): one more rounding would be above the median of three others "
    "as often as below.",
    "learning-rate": "At each learning rate TSLoss is compared with Standard at the same rate "
    "(over 300 epochs at 1e-3). It shortens training at a rate if a sign test finds it faster "
    "in more problems than slower, after Holm's correction over the four rates. The effect "
    "depends on the rate if, over the problems, Kendall's tau of the ratio with the rate has "
    "one sign more often than the other by a sign test (p < 0.05).",
    "recipes": "A change speeds training up (or slows it down) if a sign test over the problems "
    "says so after Holm's correction over all changes, and the interval excludes 1. It does "
    "more than TSLoss if the interval of the ratio of its iterations to TSLoss's excludes 1. "
    "Lengths and initial prompts change where the problem starts, so problems that any arm "
    "solves untrained are left out of that arm alone.",
    "seeds": "A problem's value is the median over its first odd number of seeds: of three where "
    "there are three, of seed 0 alone where there are two. The rules of the claims stay as they "
    "are.",
    "tuned-length": "`loops-vanish` is decided at epoch 300, since the claim says “eventually”. "
    "The other claims are judged at 100 and shown at 300.",
    "sets": "Pairs of sets enter the claims about TSLoss as units like any other.",
    "force": "At lambda_ts 100 and 300 TSLoss shortens training if a sign test says so after "
    "Holm's correction over the five arms with a regulariser other than TSLoss at weight 1; the "
    "numbers of loops at the last check are compared with Standard's in the same way.",
    "gemma": "The claims about Table 3 are judged for this model alone, by the same rules, and "
    "stand beside the verdicts of SmolLM2; the two models are not pooled.",
}
"""How the runs of an experiment will be judged, written before its first run."""
