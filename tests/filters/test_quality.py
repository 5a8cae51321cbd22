"""Quality: what is left out and what must stay, on sentences written for this, then on real data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meadow.core.builder import Builder
from meadow.core.parts import Seen
from meadow.core.quality import Quality
from meadow.core.row import Example, Option, Rejected
from meadow.filters.quality import QualityFilter
from meadow.parse.options import INSTRUCTION, as_options, question_text

QUESTION = "What lowers the potassium in the blood fastest?"
ANSWER = "Insulin with glucose shifts potassium into the cells within half an hour."


def judged(example: Example, **thresholds: object) -> Example | Rejected:
    return QualityFilter(Quality(**thresholds))(example, Seen())


def row(question: str = QUESTION, answer: str = ANSWER, **more: object) -> Example:
    return Example("toy/1", "Answer this question truthfully", question, answer, "toy/1", **more)


def reason(question: str = QUESTION, answer: str = ANSWER, **thresholds: object) -> str | None:
    found = judged(row(question, answer), **thresholds)
    return found.reason if isinstance(found, Rejected) else None


def choice(output: str, key: str | None = "B", **options: str) -> Example:
    options = options or {"A": "Furosemide", "B": "Insulin with glucose", "C": "Calcium gluconate"}
    return Example(
        "toy/2", INSTRUCTION, question_text(QUESTION, options), output, "toy/2", as_options(options), key
    )


# --- encoding


@pytest.mark.parametrize(
    ("damaged", "healthy"),
    [
        ("Give 5 Âµg/kg, then wait.", "Give 5 µg/kg, then wait."),
        ("A saturation â‰¥ 94 % is normal.", "A saturation ≥ 94 % is normal."),
        ("It wonâ€™t help in MÃ©niÃ¨re disease.", "It won’t help in Ménière disease."),
        ("Warm it to 37 Â°C.", "Warm it to 37 °C."),
        ("TNF-Î± falls, and IL-1Î² does.", "TNF-α falls, and IL-1β does."),
        ("TNF-Œ± falls by 3 ¬± 1 %.", "TNF-α falls by 3 ± 1 %."),  # through Mac Roman
        ("Na√Øve T cells are there.", "Naïve T cells are there."),
        ("TGF-√é¬≤ rises.", "TGF-β rises."),  # twice
        ("How is M%C3%A9ni%C3%A8re%27s disease treated?", "How is Ménière's disease treated?"),
        ("What causes Graves%27 disease ?", "What causes Graves' disease ?"),
        ("What are corns %26 calluses?", "What are corns & calluses?"),
        ("The patientÂ’s pulse, thenÂ…", "The patient’s pulse, then…"),
        ("Ð°Ð¿Ð½Ð¾Ðµ means apnoea.", "апное means apnoea."),
        # The second line is another encoding, and healthy.
        ("Sjögren, 20 Å².\nMÃ©niÃ¨re.", "Sjögren, 20 Å².\nMénière."),
    ],
)
def test_encoding_is_repaired(damaged: str, healthy: str) -> None:
    seen = Seen()
    assert QualityFilter(Quality())(row(answer=f"{damaged} Yes."), seen).output == f"{healthy} Yes."
    assert seen.notes == {("quality", "encoding repaired"): 1}
    assert judged(row(question=damaged)).input == healthy


def test_encoding_is_left_alone_on_request() -> None:
    example = row(answer="Give 5 Âµg/kg, then wait.")
    assert judged(example, repair=False) is example


@pytest.mark.parametrize(
    "healthy",
    [
        "5 µg/kg at 37 °C, SaO₂ ≥ 94 %, pH ≤ 7.30, 12 ± 3 mL, 4×10⁹/L, Ca²⁺, HCO₃⁻, ½ tablet, λ ≈ 0.5",
        "an area of 40 Å² in a cell of 12 Å³ at 2.1 Å, Ø 5 mm, Ø±2 mm, √±3, 2×², 5 Å± 1",
        "Ménière, Sjögren, Guillain–Barré, Behçet, Ångström, Hallé, Źródło, Dvořák, Ğ, São Paulo, Łódź",
        "“Curly” ‘quotes’, „low“ ones, «others», it’s, l’œil, an … ellipsis, en–dash, em—dash",
        "œdema, fœtus, cœliac; ﬁbrosis with a ligature; ＤＮＡ in full width; e\u0301 decomposed",
        "α-blocker, β₂-agonist, γδ T cells, Δ9-THC, χ² = 4.2, Ω, μ-opioid, πάθος",
        "TAXOL® and Zyprexa™ † P<0.05 ‡ P<0.01 § ¶ ©2010, 5′→3′, ↑ TSH, ↓ T4, A→B, ♀ 46,XX",
        "желтуха, 黄疸, يرقان, צהבת, βλέννα, ⌘ and 🩺",
        "a soft\u00adhyphen, a thin\u2009space, a no-break\xa0space, a zero\u200bwidth one",
        "The yield is 80%27 of it; see https://example.org/Graves%27_disease%20x and 50%20 of FiO2.",
        "Mean %EBWL at 3 months, and SpO2%95",
    ],
)
def test_healthy_text_is_not_touched(healthy: str) -> None:
    example, seen = row(question=healthy, answer=f"That is: {healthy}."), Seen()
    assert QualityFilter(Quality())(example, seen) is example
    assert not seen.notes


@pytest.mark.parametrize(
    "damaged",
    [
        "Give 5 \ufffdg of it.",
        "M\ufffd\ufffdni\ufffd\ufffdre disease is one of the inner ear.",
        "Doctor, I??e been dizzy for a week.",
        "Don?? worry about the rash.",
        "It?? important to drink.",
        "We??l take an x-ray.",
        "The patientâ€s pulse is fast.",
        "It costs 5 ï¿½ a day.",
    ],
)
def test_encoding_that_cannot_be_repaired(damaged: str) -> None:
    assert reason(answer=damaged) == "encoding damage"
    assert reason(question=damaged) == "encoding damage"


@pytest.mark.parametrize(
    "text",
    [
        "Is it an infarct?? I am not sure.",
        "Why?? he asked, and again: what???",
        "Do you know the dose??",
        "Any ideas?? thanks; is the pain??is it bad?? a lot",
        "Is it I?? or II, they asked, and what is it?? please help",
        "It is 5 € a day, and 3 ¥.",
    ],
)
def test_marks_that_are_no_damage(text: str) -> None:
    assert reason(answer=text) is None


def test_replacement_characters_are_a_threshold() -> None:
    assert reason(answer=ANSWER + " \ufffd", replacement_characters=1) is None
    assert reason(answer=ANSWER + " \ufffd\ufffd", replacement_characters=1) == "encoding damage"


def test_fields_stay_consistent() -> None:
    options = {"A": "â‰¥ 5 Âµg", "B": "MÃ©niÃ¨re disease", "C": "none"}
    found = judged(choice("B: MÃ©niÃ¨re disease", **options))
    assert found.options == (
        Option("A", "≥ 5 µg"), Option("B", "Ménière disease"), Option("C", "none"),
    )  # fmt: skip
    assert found.output == "B: Ménière disease"
    assert found.input.endswith("\n\nA: ≥ 5 µg\nB: Ménière disease\nC: none")


# --- markup

DEBRIS = [
    "The valve opens. {{#ev:youtube|abc123}}",
    "{{c1::Insulin}} lowers the potassium.",
    "Insulin. {{reflist|2}}",
    "Insulin [[File:Beta cell.png|thumb|A cell]] lowers it.",
    "[[Insulin|The hormone]] lowers it.",
    "The [[Liver]] makes albumin.",
    "Insulin lowers it.[citation needed]",
    "History [edit]",
    "Insulin lowers it.<ref>Smith 2001</ref>",
    "<div class=\"box\">Insulin</div> lowers it.",
    "Insulin<br/>lowers it.",
    "Insulin&nbsp;lowers it.",
    "Insulin &amp; glucose lower it.",
    "A rise of {\\displaystyle x^{2}} is seen.",
    "Insulin.\n{| class=\"wikitable\"\n|-\n| a || b\n|}",
    "== Treatment ==\nInsulin lowers it.",
    "Insulin lowers it. Template:WH Template:WS",
    "Insulin lowers it. Category:Cardiology",
    "'''Insulin''' lowers it.",
    "Medical care for (disease name) is given by surgeons.",
    "Listen: [sound:murmur.mp3]",
    "Image:Heart.jpg shows the heart.",
    "Insulin lowers it. <!-- check this -->",
    "Dear [INSERT PATIENT'S NAME], insulin lowers it.",
    "Insulin lowers it. Yours, [insert your name]",
    "Insulin. Lorem ipsum dolor sit amet.",
]  # fmt: skip
NO_DEBRIS = [
    "A p<0.05 and q>0.3 in patients with<or =5 lesions, in those with>5 p=0.1.",
    "Write `&nbsp;` or `<div class=\"x\">` before it, and `{{name}}` after it.",
    "```\n<div>{{ template }}</div>\n{| |}\n== x ==\n```\nThis renders a box.",
    "$$\\text{NNT} = \\frac{1}{\\text{ARR}} = 100, x^{{2}}$$ So 100 people take it.",
    "The slope is $e^{{-kt}}$ and the sets are {{1, 2}, {3}}.",
    "np.array([[0,1,1,0]]) and [[1, 2], [3, 4]] are matrices.",
    "Seal & Sons; Q&A; R&D; AT&T; salt & water; B&B;",
    "| Drug | Dose |\n| --- | --- |\n| Insulin | 10 U |",
    "The score is |x| ≥ 2 || y, with a pulse <60/min and >40.",
    "Sequences run 3'-->5', and the '5'''-end' is capped.",
    "[...] and [EMAIL] are placeholders; grade [3] too, as [Smith 2001] say.",
    "The 5''-nucleotidase, the 3''' position, and rock 'n' roll.",
    "Category: benign. File: closed. Image: normal. Template: none.",
    "The name (brand name) is Humalog (generic name: lispro).",
    "x == y and a === b; === is not an answer",
    "https://example.org/wiki/File:Heart.svg shows it, as does https://example.org/a&lt=5",
    "[Insert a needle](https://example.org/needle); the [insert] is cloned; say hello to [patient's name]",
    "Na+/K+-ATPase <3 units; I <3 medicine; a<b>c",
]  # fmt: skip


@pytest.mark.parametrize("text", DEBRIS)
def test_markup_debris(text: str) -> None:
    assert reason(answer=text) == "markup debris"
    assert reason(question=f"What is this?\n{text}") == "markup debris"
    assert reason(answer=text, debris=False) is None


@pytest.mark.parametrize("text", NO_DEBRIS)
def test_text_that_looks_like_markup(text: str) -> None:
    assert reason(answer=text) is None
    assert reason(question=f"What does this mean: {text}?") is None


# --- editorial

EDITORIAL = [
    ("What is asthma?", "This page is a stub. It will grow."),
    ("What is asthma?", "This article is currently under construction, come back soon."),
    ("What is asthma?", "Please help WikiDoc by adding more content here."),
    ("What is asthma?", "Asthma is a disease. You can help by expanding it."),
    ("What is asthma?", "Editor-In-Chief: A. Person, M.D. Asthma is a disease."),
    ("What is asthma?", "Associate Editor(s)-in-Chief: A. Person"),
    ("What is asthma?", "Coming soon."),
    ("What is asthma?", "Content to be added"),
    ("What is asthma?", "under construction"),
    ("What is WikiDoc?", "An open textbook of medicine."),
    ("Who may edit content?", "You need to be logged in, but not to be an Editor-in-Chief to edit content."),
    ("How do I find my user page?", "WikiDoc lists it in the sidebar, beside the talk page."),
]
NOT_EDITORIAL = [
    ("What is a medical editor?", "An editor corrects manuscripts before they are printed."),
    ("Who led the journal?", "She was editor-in-chief of a journal of cardiology for ten years."),
    ("What is a stump?", "The stub of a limb that is left after an amputation."),
    ("Can you please help me?", "Please help her up and call an ambulance."),
    ("What is osteogenesis?", "Bone that is under construction by osteoblasts, and later remodelled."),
    ("When is the second dose?", "Coming soon after the first, it needs to be given within four weeks."),
    ("What does CRISPR do?", "It is a gene editor: it cuts DNA at a chosen site."),
    ("Where is the dose?", "The table of contents of the leaflet says on which page it is."),
    ("What did the page say?", "This page is to be read by pharmacists."),
]


@pytest.mark.parametrize(("question", "answer"), EDITORIAL)
def test_editorial_text(question: str, answer: str) -> None:
    assert reason(question, answer) == "editorial text"
    assert reason(question, answer, editorial=False) is None


@pytest.mark.parametrize(("question", "answer"), NOT_EDITORIAL)
def test_no_editorial_text(question: str, answer: str) -> None:
    assert reason(question, answer) is None


# --- answers that lead elsewhere

LINKS = [
    "https://example.org/potassium",
    "See http://example.org/a?b=1 for more information.",
    "Here is a good article: https://example.org/x.html",
    "www.example.org",
    "https://example.org/1\nhttps://example.org/2",
    "Check this link.",
    "You can find it here.",
    "Click here",
    "To learn how potassium is measured, click here.",
    "Medical care for gout can be found here.",
    "Directions to Hospitals Treating Gout",
    "doi:10.1000/182",
    "Check out this link https://example.org/a",
    "![image](https://example.org/a.png)",
]
NO_LINKS = [
    "Insulin, see https://example.org/potassium",
    "Here.",
    "The loop of Henle. Source: https://example.org/kidney",
    "Medical care for gout can be found in every surgery.",
    "Directions to hospitals are on the map; call before you go to one.",
    "A link between smoking and cancer was found here in 1950.",
    "Click: the sound of a mitral valve that prolapses.",
    "https://example.org/potassium says that insulin acts within half an hour, salbutamol a little later.",
    "Page",
]


@pytest.mark.parametrize("answer", LINKS)
def test_only_a_link(answer: str) -> None:
    assert reason(answer=answer) == "answer is only a link"
    assert reason(answer=answer, links=False) is None


@pytest.mark.parametrize("answer", NO_LINKS)
def test_more_than_a_link(answer: str) -> None:
    assert reason(answer=answer) is None


REFERENCES = [
    "See the table above.",
    "See figure 2",
    "(see the image below)",
    "As shown in the following diagram.",
    "Refer to Table 3.",
    "Please see the attached picture.",
    "See above.",
    "Table below.",
    "Shown in the picture above",
    "The answer is in the table above.",
    "It is described in the figure below.",
    "Refer to Table 3 for the doses.",
    "See the table below for details.",
    "As described above. See Figure 3 below.",
    "Listed in the table on the right.",
]
NO_REFERENCES = [
    "Above",
    "Below.",
    "Figure 3",  # the sign of coarctation
    "The table above shows that insulin is fastest.",
    "See the doctor.",
    "Above the kidney.",
    "The picture is one of heart failure.",
    "Look at the conjunctiva: it is pale.",
    "As above, so below: both ureters are wide.",
    "See the table above. Insulin is fastest.",
    "Shown to be of use in two trials.",
    "It is found in the section above the kidney.",
    "See slides for fungal elements.",
    "It is listed in table salt.",
    "Refer to table 3 for the doses: 5 mg at night.",
    "They are in the left box of the heart.",
]


@pytest.mark.parametrize("answer", REFERENCES)
def test_only_a_reference(answer: str) -> None:
    assert reason(answer=answer) == "answer is only a reference"
    assert reason(answer=answer, references=False) is None


@pytest.mark.parametrize("answer", NO_REFERENCES)
def test_more_than_a_reference(answer: str) -> None:
    assert reason(answer=answer) is None


PICTURES = [
    "What is shown in this picture?",
    "Which nerve is marked by the arrow?",
    "Identify the structure labelled A.",
    "Name the bone highlighted in the image.",
    "A man of 60 has a cough. Which diagnosis does the image below suggest?",
    "What does this ECG show?",
    "Which cell is pointed at by the red arrow?",
    "What is the organism in this photomicrograph?",
    "Which letter is it, of those in figure B?",
    "What do these images show?",
]
NO_PICTURES = [
    "An x-ray of the chest is shown. The man is breathless and the trachea is displaced. What is to be done?",
    "A chest x-ray shows a white left lung. What is the diagnosis?",
    "What does the ECG show in hyperkalaemia?",
    "A boy of four years has had a barking cough for two nights and a stridor; the x-ray of his neck shows a "
    "narrow trachea. What does this x-ray show?",
    "What is the clinical picture of gout?",
    "Which drug has been shown to lower mortality?",
    "How does a body image form in children?",
    "What is a figure-of-eight bandage?",
    "Laboratory values are shown below:\n| Na | 140 |\n| K | 6.8 |\nWhich of the values shown in the table is dangerous?",
    "Does labelled glucose mark tumours in images?",
    "Which imaging is used first in appendicitis?",
    "What is the image of a virtual lens, and what does the arrow of time mean?",
    "Circle of Willis: which artery is seen in the circle of Willis?",
]


@pytest.mark.parametrize("question", PICTURES)
def test_question_needs_a_picture(question: str) -> None:
    assert reason(question) == "question needs a picture"
    assert reason(question, pictures=False) is None


@pytest.mark.parametrize("question", NO_PICTURES)
def test_question_needs_no_picture(question: str) -> None:
    assert reason(question) is None


def test_pictures_in_passing_are_counted() -> None:
    seen = Seen()
    example = row("A boy limps. An x-ray of the hip is shown. What is the diagnosis?")
    assert QualityFilter(Quality())(example, seen) is example
    assert seen.notes == {("quality", "mentions a picture"): 1}


# --- truncation

TRUNCATED = [
    "The drug of choice is given by mouth for seven days and the",
    "Call a doctor if you have any of the following:",
    "Either:",
    "Insulin lowers the potassium, and then [...]",
    "Insulin lowers the potassium. (continued)",
    "Insulin lowers the potassium. Read more",
    "Insulin lowers the potassium. Read more »",
    "Insulin lowers the potassium because of the way that its receptor...",
    "Insulin lowers the potassium because of the way that…",
    "Risk factors are smoking, a high blood pressure, diabetes, and",
    "It is treated by antibiotics (amoxicillin, doxycycline or clarithromycin,",
    "Background of the study. (ABSTRACT TRUNCATED AT 250 WORDS)",
]
NOT_TRUNCATED = [
    "Nausea, weakness",
    "Prognosis is poor.",
    "Insulin with glucose",
    "Chest pain\n- Nausea\n- Shortness of breath",
    "Ask the clinic that you were referred to",
    "It is the vessel that the blood leaves by",
    "1:2",
    "Vitamin A",
    "the",
    "He asked: \"Does it hurt?\"",
    "```\nprint(x[:\n```",
    "You will learn more",
    "Antibiotics (for bacteria); antivirals (for viruses)",
    "Give insulin [10 units]",
]  # fmt: skip


@pytest.mark.parametrize("answer", TRUNCATED)
def test_truncated_text(answer: str) -> None:
    assert reason(answer=answer) == "truncated text"
    assert reason(answer=answer, truncated=False) is None


@pytest.mark.parametrize("answer", NOT_TRUNCATED)
def test_text_that_ends_as_it_may(answer: str) -> None:
    assert reason(answer=answer) is None


def test_thresholds_of_truncation() -> None:
    assert reason(answer="I would ask a doctor...", ellipsis=False) is None
    assert reason(answer="Risk factors:", announced=0) is None
    assert reason(answer=ANSWER * 10 + " These are the sources:") is None
    assert reason(answer=ANSWER * 10 + " Then came the") == "truncated text"
    assert reason(answer="Then came the") is None


# --- question and answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is gout?", "What is gout?"),
        ("What is gout?", "What is gout"),
        ("Causes of acute pancreatitis", "CAUSES OF ACUTE  PANCREATITIS."),
        ("Acute pancreatitis:", "Acute pancreatitis"),
        ("**Loop diuretics**", "Loop diuretics"),
        ("  Gout ", "Gout"),
    ],
)
def test_answer_repeats_the_question(question: str, answer: str) -> None:
    assert reason(question, answer) == "answer repeats the question"
    assert reason(question, answer, repeats=False) is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Na+", "Na-"),
        ("mg", "Mg"),
        ("PKA", "pKa"),
        ("Is aspirin of use in stroke?", "Aspirin is of use in stroke."),
        ("Gout", "Gout is a disease of joints."),
        ("10 mg", "10 g"),
        ("What is gout?", "What is gout? It is a disease of joints."),
        ("10^3", "103"),
    ],
)
def test_answer_is_not_the_question(question: str, answer: str) -> None:
    assert reason(question, answer) is None


# --- multiple choice


@pytest.mark.parametrize(
    "texts",
    [
        ("Aspirin", "Aspirin", "Heparin"),
        ("Aspirin", "aspirin", "Heparin"),
        ("Loop of Henle", "Loop  of Henle", "Glomerulus"),
        ("Give insulin.", "Give insulin", "Give salt."),
        ("Caf\u00e9-au-lait spots", "Cafe\u0301-au-lait spots", "None"),
        ("Warfarin daily", "warfarin daily.", "Heparin"),
    ],
)
def test_duplicate_options(texts: tuple[str, ...]) -> None:
    options = dict(zip("ABC", texts, strict=True))
    found = judged(choice(f"A: {texts[0]}", "A", **options))
    assert isinstance(found, Rejected)
    assert found.reason == "two options with the same text"
    assert not isinstance(judged(choice(f"A: {texts[0]}", "A", **options), options=False), Rejected)


@pytest.mark.parametrize(
    "texts",
    [
        ("Na+", "Na-", "Na"),
        ("5 mg", "5 Mg", "5 µg"),
        ("10^3", "103", "10^-3"),
        ("SHH", "Shh", "shh"),
        ("Ca2+", "Ca²⁺", "Ca"),
        ("BRCA1", "Brca1", "BRCA2"),
        ("X", "x", "Xx"),
        ("Increased; decreased", "Decreased; increased", "Increased, increased"),
        ("> 5", "< 5", "≥ 5"),
    ],
)
def test_options_that_differ(texts: tuple[str, ...]) -> None:
    options = dict(zip("ABC", texts, strict=True))
    example = choice(f"A: {texts[0]}", "A", **options)
    assert judged(example) is example


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ("A: Furosemide", "B"),
        ("B: Furosemide", "B"),
        ("A: Insulin with glucose", "B"),
        ("B: Magnesium", "B"),
        ("Furosemide", "B"),
        ("C", "B"),
        ("Magnesium", None),
        ("C: Magnesium", None),
    ],
)
def test_answer_contradicts_its_key(output: str, key: str | None) -> None:
    found = judged(choice(output, key))
    assert isinstance(found, Rejected)
    assert found.reason == "answer contradicts its key"
    assert not isinstance(judged(choice(output, key), options=False), Rejected)


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ("B: Insulin with glucose", "B"),
        ("B", "B"),
        ("Insulin with glucose", "B"),
        ("insulin with glucose", "B"),
        ("B. Insulin with glucose", "B"),
        ("B: Insulin with glucose", None),
        ("", "B"),
        ("B: Insulin with glucose", "Z"),
        ("Because insulin opens the cells", "B"),
    ],
)
def test_answer_that_agrees_or_is_for_others_to_judge(output: str, key: str | None) -> None:
    example = choice(output, key)
    assert judged(example) is example


def test_option_that_looks_like_a_letter() -> None:
    example = choice("E. coli", "A", A="E. coli", B="S. aureus", E="B. cereus")
    assert judged(example) is example


def test_labels_with_an_explanation() -> None:
    options = tuple(Option(label, label) for label in ("yes", "no", "maybe"))
    example = row("Does it help?", "yes\n\nIt helped in half of them.", options=options, answer_key="yes")
    assert judged(example) is example
    assert judged(replace(example, answer_key="no")).reason == "answer contradicts its key"
    example = replace(example, output="No doubt it helps.\n\nyes")
    assert judged(example) is example


# --- the filter


def test_rejected_says_what_was_found() -> None:
    found = judged(row(answer="Insulin&nbsp;lowers\nit.", configs=("toys",)))
    assert found == Rejected(
        "markup debris",
        "toy/1",
        "entity: Insulin&nbsp;lowers it.",
        "",
        "Insulin&nbsp;lowers\nit.",
        configs=("toys",),
    )


def test_rows_that_others_reject_pass() -> None:
    for example in (
        row(answer=""),
        row(answer=" \n"),
        row(question=""),
        row(question="", answer="Insulin"),
        row(options=(Option("A", ""), Option("A", "x")), answer_key="Q"),
        row(options=(Option("A", "x"),), answer_key=None),
        row(answer="\ud800 Ã\ud800©", question="\udfff"),
        row(answer="?"),
        row(answer="\x00\x85"),
    ):
        assert isinstance(QualityFilter(Quality())(example, Seen()), Example)


def test_long_hostile_text_takes_no_long_time() -> None:
    for piece in (
        "{{",
        "[[A",
        "<div ",
        "$$ ",
        "`",
        "'''a",
        "(",
        "Ã",
        "= ",
        "a%27",
        "see the ",
        "http://",
        "\n",
        "? ",
    ):
        assert QualityFilter(Quality())(row(piece * 5_000, "x" + piece * 5_000), Seen()) is not None


def test_every_attribute_is_documented() -> None:
    for name in Quality.__slots__:
        assert f"\n        {name}: " in Quality.__doc__


# --- real data


def examples(builder: Builder, root: Path, scratch: Path) -> Iterator[Example]:
    from meadow.core.rawfile import RawFileError
    from meadow.core.rawstore import find

    raw = replace(find(builder, root), scratch=scratch)
    for shard in raw.files and builder.shards(raw):
        if not isinstance(shard, Rejected):
            try:
                yield from (e for e in builder.examples(shard) if isinstance(e, Example))
            except RawFileError:
                continue


def outcome(builder: Builder, found: Iterator[Example]) -> tuple[int, Counter, list[Example]]:
    judge, reasons, rows, changed = QualityFilter(builder.quality or Quality()), Counter(), 0, []
    for example in found:
        rows += 1
        result = judge(example, Seen())
        if isinstance(result, Rejected):
            reasons[result.reason] += 1
        elif result is not example:
            changed.append(result)
    return rows, reasons, changed


@pytest.mark.parametrize(
    ("source", "parameters", "rows", "expected"),
    [
        ("medqa", {}, 2_544, {}),
        ("pubmedqa", {}, 1_000, {}),
        # Of all posts, whatever their score: four announce a list or a picture that is not there.
        ("stackexchange", {"min_score": -1_000}, 1_337, {"truncated text": 4}),
        ("flashcards", {}, 94, {"markup debris": 1}),
    ],
)
def test_real_sources(
    source: str, parameters: dict, rows: int, expected: dict, real: Path, tmp_path: Path
) -> None:
    from meadow.core.builder import available

    builder = available()[0][source](**parameters)
    if not (real / source).is_dir():
        pytest.skip(f"no {source} in {real}")
    assert outcome(builder, examples(builder, real, tmp_path)) == (rows, expected, [])


def test_published_data(real: Path) -> None:
    """Defects of what others ship; each was looked at, and each is one."""
    import json

    from meadow.builders.wikidoc.builder import WikiDoc

    for path, rows, expected, repaired in (
        (
            "wikidoc/medical_meadow_small.json",
            5_942,
            {
                "answer is only a link": 50,
                "markup debris": 51,
                "editorial text": 25,
                "truncated text": 6,
            },
            140,
        ),
        ("chatdoctor/chatdoctor5k.json", 5_452, {"encoding damage": 36}, 7),
    ):
        if not (real / path).is_file():
            pytest.skip(f"no {path} in {real}")
        records = json.loads((real / path).read_text(encoding="utf-8"))
        found = outcome(WikiDoc(), (row(r["input"] or "", r["output"] or "") for r in records))
        assert (found[0], found[1]) == (rows, expected)
        assert len(found[2]) == repaired


def test_no_healthy_text_is_repaired(real: Path) -> None:
    """`ftfy` behind a gate changes what it changes without one, on all that is there."""
    import json

    from ftfy import fix_encoding

    changed = 0
    for path in sorted(real.rglob("*.json")) + sorted(real.rglob("*.jsonl")):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
            for value in strings(json.loads(line)):
                if value.isascii() or "\n" in value:
                    continue
                found = judged(row(value, ANSWER), debris=False, editorial=False, pictures=False)
                if isinstance(found, Rejected):
                    continue
                assert found.input == fix_encoding(value)
                changed += found.input != value
    assert changed == 7


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)
