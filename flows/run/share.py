"""`--pull` and `--push`: one project on several machines, through a git remote and a DVC remote.

Before a run: the branch, the history of runs and what dvc.lock names come from there, so that nothing is made twice.
After it: outputs go to the DVC remote, then the files that the run wrote are committed and pushed, then its records.
In this order, what git names is always there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError
from components.html.page import plural
from flows.dvc import engine
from flows.history import git, ledger, store

WRITTEN = ("dvc.lock", "dvc.yaml", "params.schema.json", "algorithms", "data/source.json", "metrics")
"""What a run writes and git keeps; it commits nothing else."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Branch:
    """The branch that is checked out, the git remote that it follows, and its name there."""

    name: str
    remote: str
    theirs: str

    @property
    def upstream(self) -> str:
        """Where the remote's branch was when it was fetched last."""
        return f"refs/remotes/{self.remote}/{self.theirs}"


def followed(root: Path) -> Branch:
    """The branch that --pull and --push are about; UserError where it follows no remote, or DVC has none."""
    name = git.maybe(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    if not name:
        raise UserError("--pull, --push: no branch is checked out: `git switch BRANCH`")
    remote = git.maybe(root, "config", "--get", f"branch.{name}.remote")
    theirs = git.maybe(root, "config", "--get", f"branch.{name}.merge").removeprefix("refs/heads/")
    if not remote or not theirs or remote == ".":
        raise UserError(f"--pull, --push: branch {name} follows no remote: `git push --set-upstream origin {name}`")
    if not engine.remote(root):
        raise UserError("--pull, --push: DVC has no default remote: `dvc remote add --default NAME URL`")
    return Branch(name, remote, theirs)


@contextmanager
def around(root: Path, say: Say, *, pull: bool, push: bool, what: str = "run") -> Iterator[None]:
    """A run with --pull before it and --push behind it, where asked for; one that fails shares nothing.

    ``what`` it is says the subject of the commit.
    """
    if pull:
        _pull(root, say)
    if push:
        _check(root)
    yield
    if push:
        _push(root, say, what)


def _pull(root: Path, say: Say) -> None:
    """Bring the branch, the history of runs and the outputs that dvc.lock names up to where the remotes are."""
    branch = followed(root)
    before = git.commit(root)
    git.git(root, "fetch", "--quiet", branch.remote)
    git.git(root, "fetch", "--quiet", branch.remote, ledger.FETCH)
    there = git.commit(root, branch.upstream)
    if there and git.maybe(root, "rev-list", "--count", f"HEAD..{branch.upstream}") != "0":
        _forward(root, branch)
        new = git.maybe(root, "rev-list", "--count", f"{before}..HEAD")
        say(f"pulled {plural(int(new), 'commit')} of {branch.remote}/{branch.theirs}")
    came = engine.follow_lock(root)
    if came:
        say(f"pulled by DVC, as dvc.lock names it now: {', '.join(came)}")


def _forward(root: Path, branch: Branch) -> None:
    try:
        git.git(root, "merge", "--quiet", "--ff-only", branch.upstream)
    except UserError:
        ours = git.maybe(root, "rev-list", "--count", f"{branch.upstream}..HEAD")
        if ours != "0":
            raise UserError(f"--pull: {branch.name} and {branch.remote}/{branch.theirs} have both gone on: `git pull`, "
                            "end the merge (docs/data.md, \"Two branches\"), and run this again") from None  # fmt: skip
        theirs = set(git.maybe(root, "diff", "--name-only", f"HEAD..{branch.upstream}").splitlines())
        mine = git.maybe(root, "diff", "--name-only", "HEAD") + "\n" + git.maybe(root, "ls-files", "--others")
        shown = ", ".join(sorted(theirs & set(mine.splitlines()))[:5])
        raise UserError(f"--pull: {branch.remote}/{branch.theirs} has other versions of files that no commit here "
                        f"holds ({shown}): commit them, or move them away, and run this again") from None  # fmt: skip


def _check(root: Path) -> None:
    """Before a run that is to be pushed: what it reads is committed; what git remembers is what it was made from."""
    followed(root)
    if git.commit(root, "MERGE_HEAD"):
        raise UserError("--push: a merge is under way: end it with `git commit`, and run this again")
    inputs = [path for path in store.INPUTS if path not in WRITTEN and (root / path).exists()]
    own = [line[3:] for line in git.git(root, "status", "--porcelain", "--", *inputs).splitlines()]
    if own:
        raise UserError(f"--push: {', '.join(own)}: changed since the last commit: commit first, so that what is "
                        "pushed says what it was made from")  # fmt: skip


def _push(root: Path, say: Say, what: str) -> None:
    """Share what a run made: outputs, then a commit of WRITTEN, then the records of runs."""
    branch = followed(root)
    sent = engine.push(root)
    there = [path for path in WRITTEN if (root / path).exists()]
    git.git(root, "add", "--force", "--", *there)
    committed = bool(git.maybe(root, "diff", "--cached", "--name-only", "--", *there))
    if committed:
        words = f"stillroom {what} {engine.key(engine.lock(root))[:8]}\n\n`stillroom history` tells what it did."
        git.git(root, "commit", "--quiet", "--only", "-m", words, "--", *there)
    known = git.commit(root, branch.upstream)
    new = committed or not known or git.maybe(root, "rev-list", "--count", f"{branch.upstream}..HEAD") != "0"
    try:
        git.git(root, "push", "--quiet", branch.remote, f"HEAD:refs/heads/{branch.theirs}")
    except UserError as error:
        behind = "fetch first" in str(error) or "non-fast-forward" in str(error)
        advice = "`stillroom run --pull --push` takes in what others pushed" if behind else "mend it and run this again"
        raise UserError(f"--push: {branch.remote}/{branch.theirs} did not take it ({error}): {advice}; what was made "
                        "is in DVC's remote") from None  # fmt: skip
    # Each time: a kill, or a remote that refused them, may have left earlier ones here alone.
    git.git(root, "push", "--quiet", branch.remote, f"{ledger.REFS}/*:{ledger.REFS}/*")
    if new or sent:
        did = "committed what the run wrote, and pushed it" if committed else "pushed"
        say(f"{did} to {branch.remote}/{branch.theirs}; {plural(sent, 'file')} to DVC's remote")
