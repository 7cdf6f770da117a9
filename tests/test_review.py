# SPDX-License-Identifier: GPL-2.0-only
"""The review finds what the reviewers found, and flaws that nobody has seen before."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from functools import cache

import pytest

from command import VMAPLAB
from facts import ARCHES
from json_support import matches
from object_support import EXAMPLE, SNIPPETS, needs_kernel, object_of
from vmaplab import NULL_PFN, Kernel
from vmaplab.errors import InputError, KernelFault, VmapError
from vmaplab.object import build, targets
from vmaplab.object.build import Built
from vmaplab.pages.shapes import Shapes
from vmaplab.release import RELEASES
from vmaplab.report import review as report
from vmaplab.report.text import leaves
from vmaplab.review.experiments import EXPERIMENTS, described
from vmaplab.review.findings import Finding, Review
from vmaplab.review.run import review
from vmaplab.review.subject import Subject, of_objects, of_release

ARM = ("arm64-4k", "arm64-16k", "arm64-64k")
NO_GROUPS = ("x86_64", "x86_64-la57", "riscv64-sv39", "riscv64-sv48", "riscv64-sv57")
FEW = ["arm64-4k", "x86_64"]


@cache
def reviewed(name: str) -> Review:
    return review(of_release(RELEASES[name], list(ARCHES)))


def found(result: Review, experiment: str, word: str = "") -> Finding | None:
    return next((it for it in result.findings if it.experiment == experiment and word in it.headline), None)


@pytest.mark.slow
class TestTheReleases:
    def test_version_3_is_coupled_to_nohugeiomap(self):
        finding = found(reviewed("series-v3"), "coupling", "nohugeiomap")
        assert set(ARM) <= set(finding.arches) and not set(NO_GROUPS) & set(finding.arches)
        assert (finding.ours.entries, finding.other.entries, len(finding.pfns)) == (1, 16, 16)

    def test_version_3_has_no_pmd_leaves_on_x86_64_and_riscv64(self):
        finding = found(reviewed("series-v3"), "lost", "no PMD blocks")
        assert set(NO_GROUPS) <= set(finding.arches) and not set(ARM) & set(finding.arches)
        assert (finding.ours.entries, finding.other.entries) == (512, 1)

    def test_version_3_maps_misaligned_runs_with_base_pages(self):
        finding = found(reviewed("series-v3"), "alignment")
        assert set(ARM) <= set(finding.arches)
        assert ("16", "256", "16") in finding.evidence  # 2^8 pages aligned to 2^4: base pages, 16 groups would do

    @pytest.mark.parametrize("name", ["series-v4", "mm-unstable"])
    def test_later_versions_show_none_of_the_three(self, name):
        result = reviewed(name)
        assert not found(result, "coupling", "nohuge") and not found(result, "lost") and not found(result, "alignment")

    def test_version_4_scans_again_and_again(self):
        finding = found(reviewed("series-v4"), "scan")
        assert set(ARM) <= set(finding.arches) and "late" in finding.headline
        assert not found(reviewed("mm-unstable"), "scan") and not found(reviewed("series-v3"), "scan")

    def test_the_suggestion_of_the_review_scans_even_aligned_runs_quadratically(self):
        finding = found(reviewed("suggested"), "scan")
        exponent = float(finding.headline.rsplit("^", 1)[1])
        assert 1.7 < exponent <= 2

    @pytest.mark.parametrize("name", ["series-v3", "suggested", "series-v4", "mm-unstable"])
    def test_every_version_stops_at_the_first_small_chunk(self, name):
        finding = found(reviewed(name), "early")
        assert finding.ours.entries > 1.4 * finding.other.entries
        assert found(reviewed("linux-6.12"), "early") is None

    def test_releases_without_batching_lose_every_large_leaf(self):
        for name in ("linux-6.12", "linux-6.18"):
            assert {it.headline.split(" where")[0] for it in reviewed(name).findings if it.experiment == "lost"} == {
                "no contiguous-PTE groups",
                "no PMD blocks",
            }

    def test_no_invariant_is_broken(self):
        assert all(found(reviewed(name), "invariants") is None for name in RELEASES)

    def test_the_walkers_contract_is_told(self):
        finding = found(reviewed("linux-6.12"), "contract")
        header, *rows = finding.evidence
        assert header[1:3] == ("12", "13") and {row[0] for row in rows} >= {"only the first frame of a chunk in place"}
        assert all(set(row[1:]) <= {"right", "-"} for row in rows if row[0] == "chunks contiguous and aligned")

    @pytest.mark.parametrize("name", ["linux-6.12", "mm-unstable"])
    def test_frames_behind_an_aligned_one_are_taken_for_its_neighbours(self, name):
        _, *rows = found(reviewed(name), "contract").evidence
        assert "wrong" in next(row for row in rows if row[0] == "only the first frame of a chunk in place")


def subject_of(kernel_type, arches=FEW) -> Subject:
    """The review's subject: a kernel that is not in the list of releases."""
    base = of_release(RELEASES["mm-unstable"], list(arches))

    def boot(arch, options):
        config = {word[7:-2]: word.endswith("=y") for word in options if word.startswith("CONFIG_")}
        args = [word for word in options if not word.startswith("CONFIG_")]
        return kernel_type(arch, "mm-unstable", args, config=config, record=True)

    return replace(base, name="made up", boot=boot, _tables={})


def made_up_of(name: str, **rules):
    """A patch version that nobody sent: the rules of ``name`` with others."""
    known = RELEASES[name]
    return replace(known, name="made-up", rules=replace(known.rules, **rules))


@pytest.mark.slow
class TestFlawsThatNobodyHasSeen:
    def test_a_release_that_refuses_pmd_blocks_where_there_are_groups(self):
        """A made-up release: the size of an order is asked of the PTE level only, and larger orders are cut to it."""
        made_up = made_up_of("suggested", gate="arch_vmap_pte_supported_shift", caps_at_pmd=True)
        result = review(of_release(made_up, FEW))
        assert found(result, "lost", "no PMD blocks").arches == ("x86_64",)

    def test_a_release_whose_area_is_not_aligned(self):
        made_up = made_up_of("mm-unstable", aligns_area=False)
        finding = found(review(of_release(made_up, FEW)), "area", "where the area happens to lie")
        assert finding.arches == ("arm64-4k", "x86_64") and finding.ours.entries >= 2 * finding.other.entries
        assert found(review(of_release(RELEASES["mm-unstable"], FEW)), "area", "where the area happens") is None

    def test_a_coupling_to_another_boot_argument(self):
        class Coupled(Kernel):
            def __init__(self, arch, release, args, **keywords):
                super().__init__(arch, "linux-6.12" if "nohugevmalloc" in args else release, args, **keywords)

        result = review(subject_of(Coupled))
        assert found(result, "coupling", "nohugevmalloc").arches == ("arm64-4k", "x86_64")
        assert not found(result, "coupling", "nohugeiomap")

    def test_a_wrong_page_at_the_end_of_odd_arrays(self):
        class Odd(Kernel):
            def vmap(self, pfns, *arguments):
                pfns = pfns.copy()
                if len(pfns) % 2 and len(pfns) > 1:
                    pfns[-1] += 1
                return super().vmap(pfns, *arguments)

        finding = found(review(subject_of(Odd), ["invariants"]), "invariants")
        assert "is mapped to PFN" in finding.headline and len(finding.pfns) == 3

    def test_an_area_that_stays_when_memory_runs_out(self):
        class Leaky(Kernel):
            def vmap(self, pfns, *arguments):
                try:
                    return super().vmap(pfns, *arguments)
                except VmapError:
                    self.get_vm_area(len(pfns) * self.arch.page_size)
                    raise

        subject = replace(subject_of(Leaky), boot_args="nohugeiomap")
        finding = found(review(subject, ["invariants"]), "invariants")
        assert finding is not None and len(finding.pfns) == 1
        assert finding.commands[0][:2] == ("check", "--faults") and finding.commands[0][-1].startswith(
            "boot nohugeiomap; fail "
        )

    def test_a_scan_that_is_quadratic_on_scattered_pages(self):
        class Slow(Kernel):
            def vmap(self, pfns, *arguments):
                mapping = super().vmap(pfns, *arguments)
                scanned = mapping.cost.pages_scanned + (len(pfns) ** 2 if len(pfns) > 8 and pfns[0] > pfns[1] else 0)
                mapping._cost = replace(mapping.cost, pages_scanned=scanned)
                return mapping

        finding = found(review(subject_of(Slow), ["scan"]), "scan")
        assert finding.headline.startswith("scattered pages") and finding.arches == ("arm64-4k", "x86_64")

    def test_a_kernel_that_goes_wrong_is_reviewed_to_the_end(self):
        class Faulty(Kernel):
            def vmap(self, pfns, *arguments):
                if len(pfns) == 2:
                    raise KernelFault("BUG at mm/vmalloc.c:1 made_up")
                return super().vmap(pfns, *arguments)

        result = review(subject_of(Faulty))
        assert found(result, "invariants").headline.startswith("BUG at")
        assert ("coupling", "x86_64", "BUG at mm/vmalloc.c:1 made_up") in result.unfinished
        assert found(result, "early") and "not finished:" in report.as_text(result)

    def test_a_null_page_that_is_mapped(self):
        class Careless(Kernel):
            def vmap(self, pfns, *arguments):
                return super().vmap([pfn if pfn != NULL_PFN else 1 for pfn in pfns.tolist()], *arguments)

        finding = found(review(subject_of(Careless), ["invariants"]), "invariants")
        assert "NULL or not valid, and reports no error" in finding.headline
        assert "null" in finding.commands[0][1]

    @pytest.mark.parametrize("name", ["series-v4", "mm-unstable"])
    def test_misaligned_runs_where_there_is_only_one_large_leaf(self, name):
        finding = found(review(of_release(RELEASES[name], ["x86_64"]), ["area"]), "area", "aligned alike")
        assert finding.ours.entries > 50 * finding.other.entries

    @needs_kernel
    def test_a_flaw_in_c(self, tmp_path):
        """The example with its batching limited to runs that start at an even number of groups."""
        text = EXAMPLE.read_text()
        flawed = tmp_path / "flawed.c"
        line = "\torder = ilog2(run);"
        assert text.count(line) == 1
        flawed.write_text(text.replace(line, "\tif (pfn & 16)\n\t\treturn PAGE_SHIFT;\n" + line))
        right = review(of_objects([object_of("arm64-4k", EXAMPLE, "batched_vmap")], []), ["alignment", "lost"])
        wrong = review(of_objects([object_of("arm64-4k", flawed, "batched_vmap")], []), ["alignment", "lost"])
        assert not right.findings and {finding.experiment for finding in wrong.findings} == {"alignment"}


@needs_kernel
def test_the_kernels_own_code_is_reviewed_like_its_model():
    own = review(of_objects([object_of("x86_64")], ["--object"]))
    model = review(of_release(RELEASES["linux-6.12"], ["x86_64"]))
    assert [it.headline for it in own.findings] == [it.headline for it in model.findings]
    assert [it.ours.leaves.tolist() for it in own.findings] == [it.ours.leaves.tolist() for it in model.findings]


@pytest.fixture(scope="module")
def result():
    return review(of_release(RELEASES["series-v3"], FEW))


class TestTheReport:
    @pytest.mark.slow
    def test_every_command_shows_what_the_finding_says(self, result):
        for finding in result.findings:
            for words in finding.commands:
                done = subprocess.run([*VMAPLAB, *words, "--json"], capture_output=True, text=True, timeout=300)
                told = json.loads(done.stdout)
                if words[0] == "map":
                    assert told["leaves"] in [leaves(it.leaves) for it in (finding.ours, finding.other)]
                else:
                    assert [it["headline"] for it in told["findings"]] == [finding.headline]

    def test_a_table_that_is_too_wide_folds_its_words_and_keeps_its_numbers(self):
        rows = (
            ("", "us on a core"),
            ("heap 8/4/0, fragmentation 0.5", "A55 1109.1 -> 80.40"),
            ("one page", "A55 2.88"),
        )
        folded = ["                         us on a core", "   heap 8/4/0,    A55 1109.1 -> 80.40"]
        folded += ["   fragmentation", "   0.5", "   one page                  A55 2.88"]
        assert report.columns(rows, width=37) == folded
        assert report.columns(((" ", "a b"), ("", "c")), width=1)[-1].split() == ["c"]
        assert len(report.columns(rows)) == 3 and "heap 8/4/0, fragmentation 0.5  A55" in report.columns(rows)[1]

    def test_a_mail_has_no_line_over_72_columns_but_commands(self, result):
        for line in report.as_mail(result).splitlines():
            assert len(line) <= 72 or line.startswith("   vmaplab "), line
            assert line.isascii() and line == line.rstrip()

    def test_json_has_everything(self, result):
        told = matches("review", report.as_json(result))
        assert {it["experiment"] for it in told["findings"]} >= {"coupling", "lost", "alignment", "early", "contract"}
        assert all(
            it["tables"][0]["leaves"] and it["commands"] and it["pages"].startswith("pfns:") for it in told["findings"]
        )

    def test_experiments_can_be_chosen(self):
        result = review(of_release(RELEASES["series-v3"], FEW), ["coupling"])
        assert {it.experiment for it in result.findings} == {"coupling"} and len(result.experiments) == 1
        with pytest.raises(InputError, match="unknown experiment 'copling'; known: invariants"):
            review(of_release(RELEASES["series-v3"], FEW), ["copling"])

    @pytest.mark.parametrize(
        "words",
        [
            ["--only", "nothing"],
            ["--arch", "vax"],
            ["--release", "series-v9"],
            ["--release", "series-v3", "--object"],
            ["--snippet", "x.c"],
            ["--config", "KMSAN"],
            ["--boot-args", "quiet"],
        ],
    )
    def test_bad_input_is_one_line(self, words):
        done = subprocess.run([*VMAPLAB, "review", *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), shlex.join(words)


def test_arrays_are_described_in_words():
    shapes = Shapes(ARCHES["arm64-4k"])
    assert described(shapes.run(1)) == "one page"
    assert described(shapes.run(32, 16)) == "32 contiguous pages, the first frame aligned to 16 pages"
    assert described(shapes.scattered(5)) == "5 pages, none contiguous"
    assert {experiment.name for experiment in EXPERIMENTS} >= {
        "coupling",
        "lost",
        "alignment",
        "scan",
        "early",
        "contract",
        "overlap",
    }


@needs_kernel
@pytest.mark.slow
def test_calls_that_overlap_are_reviewed_too():
    races = SNIPPETS / "races.c"

    def overlapping(name: str) -> Built:
        return build.build(targets.get(name), None, targets.smp(), races, "counts_plainly")

    built = [build.build(targets.get("arm64-4k"), None, (), races, "counts_plainly")]
    subject = of_objects(built, ["--snippet", str(races), "--call", "counts_plainly"], overlapping=overlapping)
    result = review(subject, ["overlap"])
    finding = found(result, "overlap", "plain_count")
    assert finding and finding.lines[0].startswith("CPU ") and "--schedule" in finding.commands[0]
    assert "counts_plainly() (races.c:" in report.as_mail(result)
    assert report.as_json(result)["findings"][0]["pages"] is None
    assert review(of_objects(built, []), ["overlap"]).experiments == ()  # nobody gives an object for it
