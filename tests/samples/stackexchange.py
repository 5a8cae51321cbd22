r"""The sample's source: two invented question-and-answer sites, in the format of the Stack Exchange dump.

``python -m tests.samples.stackexchange`` writes the files under ``builders/stackexchange/sample/``; a test
checks that they are what this script writes. People and posts are invented; the text is original and
dedicated to the public domain (CC0). The licence attributes stand there because real dumps have
them. Site names end in ``.example``, which no real site can.

``health.example`` looks like a dump since 2024: ``|a|b|`` tags, ``ContentLicense``, LF line ends.
``fitness.example`` looks like one of the 2010s: ``<a><b>`` tags, no licence attribute, CRLF, no Users.xml.

On purpose there are: an answer whose question is missing, tag wikis (types 4 and 5), an unanswered
question and one closed as a duplicate, scores of 5, below 5 and below zero, owners that are gone with and
without a name, an owner whom Users.xml lacks, posts edited by others, a community wiki post, and a link
without any words around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "builders" / "stackexchange" / "sample"

QUESTION, ANSWER, TAG_EXCERPT, TAG_WIKI = 1, 2, 4, 5

#: Characters that the dump escapes inside attributes; apostrophes and non-ASCII letters stay as they are.
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "", "\n": "&#xA;", "\t": "&#x9;"}


@dataclass(frozen=True)
class Post:
    """One row of Posts.xml; what is None has no attribute.

    Attributes:
        parent: The question of an answer.
        accepted: The accepted answer of a question.
        owner: A user id; where it is None, `owner_name` is the name that a deleted account left.
        editor: Who edited it last, on the day `edited`.
        wiki: The day on which it became a community wiki.
    """

    id: int
    day: str
    score: int
    body: str
    kind: int = ANSWER
    parent: int | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    accepted: int | None = None
    owner: int | None = None
    owner_name: str | None = None
    editor: int | None = None
    edited: str | None = None
    views: int | None = None
    comments: int = 0
    favorites: int | None = None
    closed: str | None = None
    wiki: str | None = None


@dataclass(frozen=True)
class Site:
    """A site: its posts, and whatever else its folder holds."""

    name: str
    posts: tuple[Post, ...]
    users: tuple[tuple[int, str, str], ...] = ()
    links: tuple[tuple[int, int, int], ...] = ()
    pipes: bool = field(default=True)
    licensed: bool = True
    line_end: str = "\n"


def ask(number: int, day: str, score: int, title: str, tags: str, body: str, **more: object) -> Post:
    """A question; `tags` are separated by blanks."""
    return Post(number, day, score, body, kind=QUESTION, title=title, tags=tuple(tags.split()), **more)


def answer(number: int, parent: int, day: str, score: int, body: str, **more: object) -> Post:
    """An answer to question `parent`."""
    return Post(number, day, score, body, parent=parent, **more)


HEALTH_USERS = (
    (-1, "Community", "2015-03-31"),
    (2, "Inés Quiroga", "2015-03-31"),
    (3, "night_shift_nurse", "2015-04-02"),
    (4, "Tobias K.", "2015-04-01"),
    (5, "pharmagirl", "2015-04-01"),
    (6, "Abena Osei", "2015-04-30"),
    (7, "statsandstethoscopes", "2015-05-01"),
    (8, 'Marek "Mak" Nowicki', "2016-01-15"),
    (9, "O'Leary & Daughter", "2017-11-30"),
    (10, "李静", "2019-03-06"),
    (11, "curious_parent", "2017-09-30"),
    (12, "first<aider>", "2017-09-19"),
)

HEALTH = (
    ask(
        1,
        "2015-04-03",
        18,
        "Why should I not take ibuprofen right before my low-dose aspirin?",
        "medication interactions aspirin",
        """<p>I take 81&nbsp;mg of aspirin every morning after a heart attack. The leaflet of my ibuprofen tablets says to \
ask a pharmacist if I take aspirin &quot;to protect the heart&quot;.</p>

<p>Both are painkillers of the same family, so what is the problem, and does the order matter?</p>
""",
        owner=4,
        accepted=2,
        views=5120,
        comments=2,
        favorites=3,
    ),
    answer(
        2,
        1,
        "2015-04-03",
        14,
        """<p>Both drugs fit into the same pocket of an enzyme, COX-1, in your platelets.</p>

<ul>
<li>Aspirin changes the enzyme <strong>for good</strong>. A platelet cannot make a new one, so the effect lasts for the \
platelet's life of a week or so.</li>
<li>Ibuprofen only <em>sits</em> in the pocket for some hours. If it is there first, aspirin cannot get in, and aspirin \
is gone from the blood before the pocket is free again.</li>
</ul>

<p>Hence the usual advice for an occasional 400&nbsp;mg dose of ibuprofen:</p>

<ul>
<li>With plain (immediate-release) aspirin
<ul>
<li>take ibuprofen at least 30 minutes <em>after</em> the aspirin, or</li>
<li>more than 8 hours <em>before</em> it.</li>
</ul></li>
<li>With coated (enteric) aspirin
<ul>
<li>no interval is known to be safe, so ask first.</li>
</ul></li>
</ul>

<p>After a heart attack there are further reasons to avoid ibuprofen and its relatives, so do ask your doctor or \
pharmacist before you take any.</p>
""",
        owner=5,
        editor=3,
        edited="2015-04-10",
        comments=1,
    ),
    answer(
        3,
        1,
        "2015-04-06",
        7,
        """<p>To add to the accepted answer: together the two also irritate the stomach more than either alone, and the \
risk of bleeding goes up.</p>

<p>Paracetamol (acetaminophen) does not block aspirin's effect on platelets, so it is often suggested for occasional \
pain or fever in this situation. Keep to the dose on the package, count what is in cold remedies too, and ask first if \
you have liver disease or drink a lot of alcohol.</p>
""",
        owner_name="K. Ferreira",
    ),
    answer(4, 1, "2016-01-20", 1, "<p>Ask your pharmacist, that is what they are there for.</p>\n"),
    ask(
        5,
        "2015-05-14",
        25,
        "How do I convert blood glucose between mg/dL and mmol/L?",
        "diabetes units blood-glucose",
        """<p>My meter shows mg/dL, my sister's shows mmol/L. What is the exact factor, and where does it come from?</p>

<p>A small table of the values that matter would be great.</p>
""",
        owner=6,
        accepted=6,
        views=20411,
        favorites=9,
    ),
    answer(
        6,
        5,
        "2015-05-14",
        22,
        """<p>The factor is the molar mass of glucose, 180.16&nbsp;g/mol, divided by ten because of the decilitre: 18.016.</p>

<pre class="lang-py prettyprint-override"><code>FACTOR = 18.016  # mg/dL for one mmol/L of glucose

def to_mmol(mg_dl):
    return mg_dl / FACTOR

def is_low(mg_dl):
    # below 70 mg/dL counts as hypoglycaemia in people with diabetes
    return mg_dl &lt; 70 and mg_dl &gt; 0
</code></pre>

<p>For everyday use, dividing by <code>18</code> is exact enough:</p>

<div class="s-table-container">
<table class="s-table">
<thead>
<tr>
<th>mg/dL</th>
<th>mmol/L</th>
</tr>
</thead>
<tbody>
<tr>
<td>70</td>
<td>3.9</td>
</tr>
<tr>
<td>100</td>
<td>5.6</td>
</tr>
<tr>
<td>126</td>
<td>7.0</td>
</tr>
<tr>
<td>180</td>
<td>10.0</td>
</tr>
<tr>
<td>200</td>
<td>11.1</td>
</tr>
</tbody>
</table>
</div>
<p>The factor holds for glucose only. Cholesterol, for one, has another.</p>
""",
        owner=7,
        editor=-1,
        edited="2020-06-16",
        comments=3,
    ),
    answer(
        7,
        5,
        "2017-02-11",
        9,
        r"""<p>Do not mix this up with HbA<sub>1c</sub>, which also comes in two units. There the relation is not a plain factor:</p>

<p>$$\text{IFCC} = 10.929 \times (\text{NGSP} - 2.15)$$</p>

<p>with NGSP in % and IFCC in mmol/mol. So 6.5&nbsp;% is 48&nbsp;mmol/mol and 7.0&nbsp;% is 53&nbsp;mmol/mol.</p>
""",
        owner=8,
    ),
    answer(8, 5, "2018-09-09", 3, "<p>Divide by 18, done.</p>\n", owner=41),
    ask(
        9,
        "2016-03-08",
        11,
        "What does the body mass index tell me, and what not?",
        "bmi weight",
        """<p>According to an online calculator my BMI is 27, but I lift weights and my waist is slim. How is the number \
worked out, and is it of any use for me?</p>
""",
        owner=8,
        accepted=11,
        views=3302,
    ),
    answer(
        10,
        9,
        "2016-03-08",
        11,
        r"""<p>It is body mass divided by height squared,</p>

<p>$$\text{BMI} = \frac{m}{h^2}$$</p>

<p>in kg/m<sup>2</sup>. Somebody of 70&nbsp;kg and 1.75&nbsp;m has $70 / 1.75^2 \approx 22.9$.</p>

<table>
<tr><th>BMI</th><th>Adults</th></tr>
<tr><td>below 18.5</td><td>underweight</td></tr>
<tr><td>18.5 to 24.9</td><td>normal</td></tr>
<tr><td>25.0 to 29.9</td><td>overweight</td></tr>
<tr><td>30.0 and above</td><td>obesity</td></tr>
</table>
""",
        owner=2,
    ),
    answer(
        11,
        9,
        "2016-03-09",
        6,
        """<p>It was made for populations, and it cannot tell muscle from fat. Keep in mind that</p>

<ol>
<li>athletes with much muscle come out too high;</li>
<li>older people who have lost muscle can come out &quot;normal&quot; although they carry a lot of fat;</li>
<li>in many Asian populations risk rises earlier, so 23 and 27.5 are used as additional points of action;</li>
<li>children and teenagers need charts for age and sex.</li>
</ol>

<p>Your slim waist is good news: fat around the middle says more about the risk of diabetes and heart disease than weight \
alone. Blood pressure, glucose and lipids say still more.</p>
""",
        owner=7,
    ),
    answer(12, 9, "2016-05-30", 0, "<p>Measure your waist too.</p>\n", owner_name="user3391"),
    ask(
        13,
        "2017-10-02",
        16,
        "At which temperature does a child have a fever?",
        "fever children thermometer",
        """<p>My ear thermometer says 37.9&nbsp;°C, the one for the armpit 37.3&nbsp;°C. Our daughter is two years old, \
drinks and plays.</p>

<p>What counts as fever, and when do we have to see somebody?</p>
""",
        owner=11,
        accepted=14,
        views=8870,
        comments=1,
    ),
    answer(
        14,
        13,
        "2017-10-02",
        17,
        """<p>It depends on where you measure. Common limits are:</p>

<div class="s-table-container"><table class="s-table">
<thead><tr><th>Place</th><th>Fever from</th></tr></thead>
<tbody>
<tr><td>rectum, ear, forehead</td><td>38.0 °C (100.4 °F)</td></tr>
<tr><td>mouth</td><td>37.8 °C (100 °F)</td></tr>
<tr><td>armpit</td><td>37.2 °C (99 °F)</td></tr>
</tbody>
</table></div>

<p>Armpit readings are the least reliable. How the child looks and drinks matters more than the number. <strong>See a \
doctor without delay</strong> if</p>

<ul>
<li>a baby under three months has 38.0&nbsp;°C or more, whatever else;</li>
<li>a child of any age
<ul>
<li>is hard to wake, confused or floppy,</li>
<li>breathes fast or with effort,</li>
<li>has a stiff neck, or a rash that does not fade under a glass,</li>
<li>has a seizure,</li>
<li>or drinks little and has few wet nappies;</li>
</ul></li>
<li>fever goes on for more than a few days, or you are worried.</li>
</ul>
""",
        owner=3,
        editor=2,
        edited="2018-06-01",
    ),
    answer(
        15,
        13,
        "2017-10-03",
        8,
        """<blockquote>
<p>drinks and plays</p>
</blockquote>

<p>Then there is no need to bring the temperature down for its own sake. If she is miserable, paracetamol or ibuprofen in \
the dose <em>for her weight</em> makes her more comfortable. Ask first before giving ibuprofen to a baby under six months \
or to a child who hardly drinks.</p>

<p>No aspirin for children, no rubbing with alcohol, and no cold baths.</p>
""",
        owner=12,
    ),
    answer(
        16,
        13,
        "2018-01-05",
        4,
        "<p>If you still have a glass thermometer with mercury, hand it in at a collection point and get a digital one.</p>\n",
        owner=9,
    ),
    ask(
        17,
        "2018-04-30",
        21,
        "What is in oral rehydration solution, and can I make it at home?",
        "diarrhea dehydration children",
        """<p>We travel to a place where the next pharmacy is a day away. What do the sachets contain, and is there a \
safe way to make the drink ourselves if we run out?</p>
""",
        owner=6,
        accepted=18,
        views=12045,
        favorites=7,
    ),
    answer(
        18,
        17,
        "2018-05-01",
        19,
        """<p>The WHO formula since 2002, per litre of clean water:</p>

<table>
<thead>
<tr><th>Ingredient</th><th>g/L</th></tr>
</thead>
<tbody>
<tr><td>Glucose, anhydrous</td><td>13.5</td></tr>
<tr><td>Sodium chloride</td><td>2.6</td></tr>
<tr><td>Trisodium citrate, dihydrate</td><td>2.9</td></tr>
<tr><td>Potassium chloride</td><td>1.5</td></tr>
</tbody>
</table>

<p>That makes 75&nbsp;mmol/L each of sodium and glucose, and 245&nbsp;mOsm/L in all. Glucose pulls sodium through the wall \
of the gut, and water follows; that is why the proportions matter.</p>

<p>If there are no sachets, a stopgap is</p>

<pre><code>1 litre    clean water
6 level    teaspoons of sugar
1/2 level  teaspoon of salt
</code></pre>

<p>Measure with care: <strong>too much salt is dangerous</strong>, above all for small children. Taste it; it must not be \
saltier than tears. Take enough sachets with you.</p>
""",
        owner=2,
        comments=2,
    ),
    answer(
        19,
        17,
        "2018-05-03",
        12,
        """<p>How much? As a rule of thumb, after every loose stool:</p>

<ul>
<li>under 2 years: 50 to 100&nbsp;mL, by spoon or in small sips</li>
<li>2 to 10 years: 100 to 200&nbsp;mL</li>
<li>older: as much as wanted</li>
</ul>

<p>If the child vomits, wait ten minutes and go on more slowly. Keep on breastfeeding and offering food.</p>

<p>Look for help at once with blood in the stool, a high fever, sunken eyes, hardly any urine, a child who is drowsy or \
cannot drink, or vomiting that does not stop.</p>
""",
        owner=3,
        editor=7,
        edited="2019-02-17",
    ),
    answer(
        20,
        17,
        "2019-08-22",
        5,
        """<p>Do not use cola, juice or sports drinks <em>instead</em>: they have far too much sugar &amp; too little \
sodium, and the sugar can draw even more water into the gut.</p>
""",
        owner=10,
    ),
    ask(
        21,
        "2018-06-12",
        14,
        "Do I really have to finish every course of antibiotics?",
        "antibiotics resistance",
        """<p>I have always been told:</p>

<blockquote>
<p>Finish the course even if you feel better, or the germs become resistant.</p>
</blockquote>

<p>Now I read that this is outdated. What is right?</p>
""",
        owner=4,
        accepted=22,
        views=6021,
        comments=4,
    ),
    answer(
        22,
        21,
        "2018-06-12",
        13,
        """<p>Both have a point.</p>

<p>The <em>reason</em> usually given is weak. Resistance is favoured mostly by more exposure, among the harmless bacteria \
that you carry along too. For several common infections, such as uncomplicated pneumonia in adults, trials found shorter \
courses to be as good as longer ones, and guidelines have become shorter.</p>

<p>That does <strong>not</strong> mean that everybody should stop as soon as they feel better:</p>

<ul>
<li>Tuberculosis, endocarditis and bone infections come back if treated too briefly.</li>
<li>For strep throat, where the aim is also to prevent rheumatic fever, the full course is still advised.</li>
</ul>

<p>So ask when you get the prescription: <q>How long do I need it, and what if I feel well earlier?</q> And call before you \
stop.</p>
""",
        owner=7,
    ),
    answer(
        23,
        21,
        "2018-07-01",
        6,
        """<p>Whatever the length: do not keep leftovers for the next cold, and do not share them. Most colds are viral, and \
the wrong drug in the wrong dose helps nobody. Many pharmacies take unused medicines back.</p>
""",
        owner=5,
    ),
    answer(24, 21, "2018-07-02", 2, "<p>I would ask whoever prescribed them.</p>\n", owner_name="anon"),
    ask(
        25,
        "2019-01-17",
        17,
        "Grapefruit and statins: is it enough to leave some hours between them?",
        "statins interactions nutrition",
        """<p>I love grapefruit &amp; take simvastatin in the evening. If I have the fruit for breakfast, twelve hours lie \
between them. Is that far enough apart?</p>
""",
        owner=9,
        accepted=26,
        views=7745,
    ),
    answer(
        26,
        25,
        "2019-01-17",
        16,
        """<p>No. Furanocoumarins in the fruit knock out the enzyme CYP3A4 in the wall of the gut, and it takes one to three \
days until enough new enzyme has been made. Twelve hours do not help.</p>

<p>How much it matters depends on the statin:</p>

<ol>
<li><strong>Simvastatin, lovastatin</strong>: avoid grapefruit altogether. Blood levels can rise several-fold.</li>
<li><strong>Atorvastatin</strong>: avoid large amounts; labels speak of more than 1.2 litres of juice a day.</li>
<li><strong>Pravastatin, rosuvastatin, fluvastatin, pitavastatin</strong>: no relevant effect, as CYP3A4 hardly matters \
for them.</li>
</ol>

<p>Too high a level means a risk of muscle damage. Report muscle pain, weakness or dark urine without delay. Do not stop \
the statin on your own; ask whether you can change to one of the third group.</p>
""",
        owner=5,
        comments=5,
    ),
    answer(
        27,
        25,
        "2019-03-28",
        5,
        """<p>Seville (bitter) oranges and pomelos contain the same substances; sweet oranges do not in relevant amounts. And \
statins are not the only drugs concerned: felodipine, ciclosporin and tacrolimus are others. The leaflet tells.</p>
""",
        owner=10,
    ),
    answer(
        28,
        25,
        "2019-04-01",
        2,
        '<p><a href="https://leaflets.example/grapefruit" rel="nofollow noreferrer">https://leaflets.example/grapefruit</a></p>\n',
        owner=41,
    ),
    ask(
        29,
        "2019-11-05",
        23,
        "How do I measure my blood pressure at home so that the numbers mean something?",
        "blood-pressure hypertension measurement",
        """<p>My readings jump between 128/79 and 151/92 within minutes. What am I doing wrong, and which value do I tell my \
doctor?</p>
""",
        owner=8,
        accepted=30,
        views=15230,
        favorites=12,
    ),
    answer(
        30,
        29,
        "2019-11-05",
        21,
        """<p>Some variation is normal. A fixed routine removes most of the rest:</p>

<ol>
<li>Prepare
<ul>
<li>no coffee, smoking or exercise for 30 minutes</li>
<li>empty your bladder</li>
<li>sit quietly for five minutes, back supported, feet flat, legs uncrossed</li>
</ul></li>
<li>Measure
<ul>
<li>cuff of the right size on the bare upper arm</li>
<li>arm resting at the height of the heart</li>
<li>do not talk</li>
<li>two readings, one minute apart</li>
</ul></li>
<li>Repeat mornings and evenings for a week, before taking your tablets.</li>
</ol>

<p>Leave out the first day and average the rest. European and British guidance calls a home average of 135/85&nbsp;mmHg or \
more high, which corresponds to 140/90 in the clinic; American guidance uses 130/80 for both.</p>
""",
        owner=3,
        editor=6,
        edited="2021-12-01",
        comments=2,
    ),
    answer(
        31,
        29,
        "2020-02-14",
        10,
        """<p>For the averaging I use this. It drops day one and wants at least three further days:</p>

<pre class="lang-py prettyprint-override"><code>def home_average(readings):
    &quot;&quot;&quot;readings: list of (day, systolic, diastolic), days counted from 1&quot;&quot;&quot;
    kept = [(s, d) for day, s, d in readings if day &gt; 1]
    days = {day for day, s, d in readings if day &gt; 1}
    if len(days) &lt; 3:
        raise ValueError("too few days")
    n = len(kept)
    return sum(s for s, d in kept) / n, sum(d for s, d in kept) / n
</code></pre>
""",
        owner=7,
    ),
    answer(
        32,
        29,
        "2020-02-20",
        7,
        """<p>One thing to know in advance: with <strong>180/120 or more</strong>, sit down and measure again after a few \
minutes.</p>

<ul>
<li>Still that high <em>with</em> chest pain, breathlessness, weakness, trouble speaking or seeing, or a severe headache: \
call an ambulance.</li>
<li>Still that high without symptoms: call your practice the same day.</li>
</ul>
""",
        owner=12,
    ),
    answer(
        33, 29, "2021-05-05", 3, "<p>Wrist devices are trickier, get one for the upper arm.</p>\n", owner=9
    ),
    ask(
        34,
        "2020-04-21",
        13,
        'What does "number needed to treat" mean?',
        "statistics evidence",
        """<p>A leaflet says that a drug lowers the risk of a stroke &quot;by 25&nbsp;%&quot;, my doctor says that 100 people must take it for one to benefit. How can both be true?</p>
""",
        owner=11,
        accepted=35,
        views=2780,
    ),
    answer(
        35,
        34,
        "2020-04-21",
        15,
        r"""<p>Suppose 4&nbsp;% have a stroke within five years without the drug and 3&nbsp;% with it.</p>

<ul>
<li>Relative risk reduction: $(0.04 - 0.03) / 0.04 = 25\,\%$</li>
<li>Absolute risk reduction: $\text{ARR} = 0.04 - 0.03 = 0.01$</li>
<li>Number needed to treat: $$\text{NNT} = \frac{1}{\text{ARR}} = 100$$</li>
</ul>

<p>So 100 people take it for five years so that one stroke is prevented. With a baseline risk of 0.4&nbsp;% the same &quot;25&nbsp;%&quot; would mean an NNT of 1,000.</p>
""",
        owner=7,
        comments=1,
    ),
    answer(
        36,
        34,
        "2020-05-02",
        6,
        """<p>Always ask for three companions of the number: <em>over which time</em>, <em>compared with what</em>, and the \
<strong>number needed to harm</strong>. An NNT of 100 over five years looks different if 1 in 20 has a side effect that \
bothers them.</p>
""",
        owner=2,
    ),
    answer(
        37,
        34,
        "2020-05-03",
        4,
        "<p>Relative numbers sound large when the risk is small, so look for the absolute ones.</p>\n",
    ),
    ask(
        38,
        "2021-06-07",
        19,
        "How do I remove a tick, and what should I watch for afterwards?",
        "ticks lyme-disease first-aid",
        """<p>Found a tick behind my knee after hiking. I have tweezers only. Pull, twist, or oil?</p>

<p><img src="https://images.example/tick-scale.png" alt="A tick beside a ruler, about three millimetres long"></p>
""",
        owner=12,
        accepted=39,
        views=9932,
        comments=3,
    ),
    answer(
        39,
        38,
        "2021-06-07",
        18,
        """<ol>
<li>Grasp it with fine-tipped tweezers as close to the skin as you can.</li>
<li>Pull straight up, slowly and steadily.</li>
<li>If mouthparts stay behind and do not come out easily, leave them; the skin will get rid of them.</li>
<li>Clean the bite and your hands.</li>
<li>Note the date.</li>
</ol>

<p>No oil, nail polish or heat: they do not speed it up and may make the tick release more fluid into the bite.</p>
""",
        owner=3,
    ),
    answer(
        40,
        38,
        "2021-06-08",
        9,
        """<p>Watch the place for about a month.</p>

<ul>
<li>A small red bump in the first two days is usually just a reaction to the bite.</li>
<li>A red patch that <strong>grows</strong> over days, mostly to 5&nbsp;cm and more and sometimes paler in the middle, can be \
<em>erythema migrans</em>. It appears 3 to 30 days after the bite and is treated without waiting for a blood test, which is \
often still negative then.</li>
<li>Fever, a drooping face, severe headache or swollen joints in the weeks after: see a doctor and mention the tick.</li>
</ul>
""",
        owner=10,
        editor=3,
        edited="2022-04-04",
    ),
    answer(
        41,
        38,
        "2021-07-15",
        5,
        """<p>This <a href="https://firstaid.example/ticks" rel="nofollow noreferrer">step by step guide with pictures</a> \
helped me. It also says to check the hairline, the groin and the hollows of the knees, and to do so soon: for the Lyme \
bacterium the risk rises with the time that the tick feeds.</p>

<p><a href="https://images.example/tweezers.png" rel="nofollow noreferrer"><img src="https://images.example/tweezers.png" \
alt="Tweezers held parallel to the skin"></a></p>
""",
        wiki="2021-07-15",
    ),
    answer(
        42,
        38,
        "2021-07-16",
        4,
        "<p>Please don't hold a match to it. You will only burn yourself.</p>\n",
        owner=4,
    ),
    ask(
        43,
        "2022-02-09",
        12,
        "Can I take iron tablets with my morning coffee?",
        "iron anemia nutrition medication",
        """<p>The only time of day at which I never forget anything is breakfast &mdash; muesli with milk, café au lait, and my \
levothyroxine half an hour earlier.</p>
""",
        owner=6,
        accepted=44,
        views=4100,
    ),
    answer(
        44,
        43,
        "2022-02-09",
        12,
        """<p>Better not. Polyphenols in coffee and tea, and the calcium in milk, bind iron or compete with it. Leave an hour or \
two before or after them; water or a glass of orange juice is fine with the tablet.</p>

<p>Extra vitamin&nbsp;C tablets are not needed: in a trial they made no difference to haemoglobin.</p>

<p>If the empty stomach rebels, taking it with a little food is better than not taking it. Some people do well with every \
other day; ask whether that suits you.</p>
""",
        owner=5,
    ),
    answer(
        45,
        43,
        "2022-02-11",
        6,
        """<p>Mind the levothyroxine as well: iron binds it in the gut, so keep <strong>four hours</strong> between the two. \
Iron at bedtime, two hours or more after dinner, is a schedule that works for many.</p>
""",
        owner=2,
    ),
    ask(
        46,
        "2023-03-13",
        20,
        "First aid for a scald: how long to cool, and what to put on it?",
        "burns first-aid",
        """<p>I spilled tea over my forearm. Family advice so far: ice, butter, toothpaste, &quot;just leave it&quot;. What is \
right?</p>
""",
        owner=9,
        accepted=47,
        views=6612,
    ),
    answer(
        47,
        46,
        "2023-03-13",
        20,
        """<ul>
<li>Off with rings, watch and wet clothes near the burn, unless they stick to the skin.</li>
<li><strong>20 minutes</strong> under cool running tap water. It still helps up to three hours after the accident.</li>
<li>Keep the rest of you warm, which matters most for small children.</li>
<li>Cover with cling film laid on, not wrapped round, or with a clean non-fluffy cloth.</li>
<li>A painkiller such as paracetamol, if you tolerate it.</li>
</ul>

<p>No ice (it can damage the skin further), no butter, no toothpaste. Leave blisters alone.</p>
""",
        owner=12,
        comments=1,
    ),
    answer(
        48,
        46,
        "2023-03-14",
        8,
        """<p>Have it looked at if</p>

<ul>
<li>it is larger than the person's own hand,</li>
<li>it is on the face, hands, feet, joints or genitals, or goes all the way round a limb,</li>
<li>it is white, brown or charred, or does not hurt although it looks deep,</li>
<li>it came from chemicals or electricity,</li>
<li>or the person is very young, old, pregnant or ill.</li>
</ul>

<p>And ask about tetanus vaccination.</p>
""",
        owner=3,
    ),
    answer(
        49, 46, "2023-03-15", -2, "<p>Did you search? This has come up before.</p>\n", owner_name="user9027"
    ),
    ask(
        50,
        "2023-09-26",
        15,
        "My screening test is positive and 95 % specific. Why is it probably wrong?",
        "statistics screening",
        """<p>The disease affects 1&nbsp;% of people like me. The test finds 90&nbsp;% of the ill and is negative in 95&nbsp;% of \
the healthy. I would say that I am ill with 95&nbsp;% certainty, but a friend says 15&nbsp;%.</p>
""",
        owner=4,
        accepted=51,
        views=3987,
    ),
    answer(
        51,
        50,
        "2023-09-26",
        14,
        """<p>Your friend is right. Imagine 10,000 people like you:</p>

<div class="s-table-container"><table class="s-table">
<thead><tr><th></th><th>ill</th><th>healthy</th><th>all</th></tr></thead>
<tbody>
<tr><th>test positive</th><td>90</td><td>495</td><td>585</td></tr>
<tr><th>test negative</th><td>10</td><td>9,405</td><td>9,415</td></tr>
<tr><th>all</th><td>100</td><td>9,900</td><td>10,000</td></tr>
</tbody>
</table></div>

<p>Of 585 positive results 90 are right, which is 15.4&nbsp;%. There are just so many healthy people that 5&nbsp;% of them \
outnumber the ill. A positive screening test means that a better test comes next, not a diagnosis.</p>
""",
        owner=7,
    ),
    answer(
        52,
        50,
        "2023-09-27",
        7,
        r"""<p>As a formula, with prevalence $p$, sensitivity $s$ and specificity $c$:</p>

<p>$$\text{PPV} = \frac{s\,p}{s\,p + (1 - c)(1 - p)} = \frac{0.009}{0.009 + 0.0495} \approx 0.154$$</p>

<p>If you have symptoms, or the disease runs in your family, your own $p$ is higher than 1&nbsp;% and so is the result.</p>
""",
        owner=10,
        editor=7,
        edited="2024-01-08",
    ),
    ask(
        53,
        "2024-02-01",
        9,
        "Why is aspirin not given to children?",
        "aspirin children medication",
        """<p>My grandmother says that she got it for every cold. What has changed?</p>
""",
        owner=11,
        accepted=54,
        views=1822,
    ),
    answer(
        54,
        53,
        "2024-02-01",
        9,
        """<p>In the 1980s studies linked aspirin, taken during influenza or chickenpox, to <strong>Reye's syndrome</strong>: a \
rare but often fatal swelling of the brain together with liver failure. After warnings had been put on the packages it \
almost disappeared.</p>

<p>Hence: no aspirin for children and teenagers with fever or a viral illness; in the United Kingdom, none under 16 unless \
a doctor prescribes it. There are exceptions in specialists' hands, such as Kawasaki disease.</p>
""",
        owner=2,
    ),
    answer(
        55,
        53,
        "2024-02-03",
        5,
        """<p>Read the small print of cold remedies, too. Acetylsalicylic acid (ASA) <em>is</em> aspirin, and some stomach remedies \
contain bismuth <em>subsalicylate</em>, which carries the same warning.</p>
""",
        owner=5,
    ),
    ask(
        56,
        "2024-02-20",
        2,
        "Is there a thermometer that is accurate to 0.01 degrees?",
        "thermometer measurement",
        "<p>For home use. Money matters less than being certain.</p>\n",
        owner=41,
        views=64,
    ),
    ask(
        57,
        "2024-03-02",
        -1,
        "Is 38.1 a fever?",
        "fever thermometer",
        "<p>Measured in the ear. Adult.</p>\n",
        owner_name="user11872",
        views=40,
        closed="2024-03-14",
    ),
    answer(
        58,
        9999,
        "2024-03-10",
        6,
        """<p>In short, yes: drink when you are thirsty, a little more in the heat, and look at the colour of your urine. Pale \
yellow is fine.</p>
""",
        owner=6,
    ),
    Post(
        59,
        "2024-03-11",
        0,
        "Questions on medicines for fever and pain that block cyclooxygenase for good.",
        kind=TAG_EXCERPT,
        owner=-1,
        editor=5,
        edited="2024-03-11",
    ),
    Post(
        60,
        "2024-03-11",
        0,
        "<p>Aspirin is acetylsalicylic acid. Use this tag for its effects, its uses and its interactions.</p>\n",
        kind=TAG_WIKI,
        owner=-1,
        editor=5,
        edited="2024-03-11",
    ),
    answer(
        61,
        57,
        "2024-03-12",
        5,
        """<p>In an adult 38.0&nbsp;&deg;C or more usually counts as fever, so yes, a mild one. Measure again in the same ear, without \
earwax in the way, and go by how you feel: rest and drink. See a doctor if it lasts longer than three days or comes with a \
stiff neck, confusion, a rash, breathlessness or chest pain, and earlier if your defences are weakened, for instance by \
chemotherapy.</p>
""",
        owner=3,
    ),
)

FITNESS = (
    ask(
        1,
        "2011-03-01",
        12,
        "How do I estimate my maximum heart rate?",
        "heart-rate cardio",
        """<p>My treadmill uses 220 minus age. I am 40 and reach 188 without feeling ill. Is the formula wrong, or am I?</p>
""",
        owner=3,
        accepted=2,
        views=2101,
        favorites=2,
    ),
    answer(
        2,
        1,
        "2011-03-01",
        10,
        """<p>Neither. It is an average, and people of one age differ with a standard deviation of 10 to 12 beats per minute. A \
formula that fits adults better is</p>

<pre><code>HRmax = 208 - 0.7 * age
</code></pre>

<p>which gives 180 for you, as does the old one at 40; the two part with age. Measured values such as your 188 beat any \
formula.</p>
""",
        owner=4,
        editor=5,
        edited="2012-07-19",
        comments=1,
    ),
    answer(
        3,
        1,
        "2012-01-09",
        6,
        """<p>If you take a beta-blocker, no formula holds: the drug lowers both resting and maximal rate. Use the talk test \
instead. At moderate intensity you can talk but not sing.</p>

<p>And chest pain, fainting or unusual breathlessness during exercise is a reason to stop and see a doctor before the next \
session.</p>
""",
        owner_name="old coach",
    ),
    ask(
        4,
        "2013-05-20",
        9,
        "Why do my legs hurt most two days after squats?",
        "soreness recovery strength-training",
        "<p>Hardly anything on the evening itself, stairs are torture on day two. Did I tear something?</p>\n",
        owner=6,
        accepted=5,
        views=1450,
    ),
    answer(
        5,
        4,
        "2013-05-20",
        9,
        """<p>Most likely not. <em>Delayed onset muscle soreness</em> follows unaccustomed work, above all when a muscle brakes \
while it lengthens, as on the way down in a squat. It peaks after 24 to 72 hours and is gone within a week.</p>

<p>It is not lactic acid: that is cleared within about an hour.</p>

<ul>
<li>Light movement is fine, and often feels better than rest.</li>
<li>Increase load step by step; the second time will hurt much less.</li>
</ul>
""",
        owner=4,
    ),
    answer(
        6,
        4,
        "2013-05-22",
        7,
        """<p>Know the exception. Severe pain and swelling with weakness and <strong>dark, cola-coloured urine</strong> after extreme \
exercise can be <em>rhabdomyolysis</em>, which can harm the kidneys. That needs a hospital on the same day.</p>
""",
        owner=7,
    ),
    answer(7, 4, "2014-02-02", 1, "<p>Stretch, maybe? It did little for me.</p>\n", owner=8),
    ask(
        8,
        "2015-09-10",
        15,
        "How much protein do I need if I lift weights three times a week?",
        "protein nutrition strength-training",
        """<p>I am 80&nbsp;kg. The jar says 2 scoops after <em>and</em> before training. My grandfather says that meat on \
Sundays is enough. Who is closer?</p>
""",
        owner=9,
        accepted=9,
        views=5533,
        favorites=4,
    ),
    answer(
        9,
        8,
        "2015-09-10",
        13,
        """<p>The recommended daily allowance for adults, 0.8&nbsp;g per kg, is meant to prevent deficiency. Sports nutrition bodies \
suggest 1.2 to 2.0&nbsp;g per kg and day for people who train hard.</p>

<table>
<tr><th>g per kg</th><th>for 80 kg</th></tr>
<tr><td>0.8</td><td>64 g</td></tr>
<tr><td>1.2</td><td>96 g</td></tr>
<tr><td>1.6</td><td>128 g</td></tr>
<tr><td>2.0</td><td>160 g</td></tr>
</table>

<p>Ordinary food gets you there: 100&nbsp;g of lentils (dry) has about 25&nbsp;g, a cup of skyr (200&nbsp;g) about 22&nbsp;g. The powder is \
convenient, nothing more.</p>
""",
        owner=10,
        editor=4,
        edited="2018-09-03",
    ),
    answer(
        10,
        8,
        "2016-11-11",
        5,
        """<p>A word of caution: with chronic kidney disease, high-protein diets can do harm. If you know of a kidney problem, or \
have diabetes or high blood pressure and were never tested, ask your doctor first.</p>
""",
        owner=7,
    ),
    ask(
        11,
        "2017-07-04",
        14,
        "Twisted my ankle: do I need an X-ray?",
        "injury ankle running",
        """<p>Stepped into a hole an hour ago. It is swollen on the outside, I can limp. Ice or heat? Hospital or sofa?</p>
""",
        owner=6,
        accepted=12,
        views=2999,
    ),
    answer(
        12,
        11,
        "2017-07-04",
        14,
        """<p>Emergency departments use the <em>Ottawa ankle rules</em>. With pain around the ankle, an X-ray is wanted if <strong>any</strong> of \
these is true:</p>

<ul>
<li>pressing on the bone hurts along the back edge, over the lowest 6&nbsp;cm, or at the tip of the
<ul>
<li>outer ankle, or</li>
<li>inner ankle;</li>
</ul></li>
<li>you could not take four steps right after the accident <em>and</em> cannot now (limping counts as steps).</li>
</ul>

<p>For pain in the middle of the foot, the base of the fifth metatarsal and the navicular bone are checked in the same way. The \
rules were made for people examined by trained staff, so if in doubt, go. A crooked, cold or numb foot is an emergency.</p>
""",
        owner=7,
        comments=2,
    ),
    answer(
        13,
        11,
        "2017-07-05",
        6,
        """<p>Cold in the first two days, wrapped in a towel, 10 to 20 minutes at a time, an elastic bandage, and the leg up. No heat \
while it is swelling. Begin to move and to put weight on it as soon as pain allows; balance training later lowers the risk of \
the next sprain.</p>
""",
        owner=4,
    ),
    ask(
        14,
        "2018-04-28",
        10,
        "Is it safe to run with a cold?",
        "running illness",
        "<p>Runny nose, no fever. Race on Sunday.</p>\n",
        owner=3,
        accepted=15,
        views=1207,
    ),
    answer(
        15,
        14,
        "2018-04-29",
        8,
        """<p>A rule of thumb is the &quot;neck check&quot;:</p>

<blockquote>
<p>Symptoms above the neck only (runny nose, mild sore throat): easy exercise is usually fine.</p>

<p>Fever, aching muscles, cough from the chest, a racing heart: rest.</p>
</blockquote>

<p>The reason to take fever seriously is that some viruses inflame the heart muscle, and hard exercise on top of that can be \
dangerous. Start easy, and stop if you feel worse after ten minutes. Races are not easy exercise.</p>
""",
        owner=7,
        editor=11,
        edited="2018-05-02",
    ),
    answer(
        16,
        14,
        "2018-05-03",
        5,
        """<p>&hellip; and after a feverish illness, come back gradually. Chest pain, palpitations, fainting or unusual breathlessness \
in the weeks after an infection &rarr; no training until a doctor has listened to you.</p>
""",
        owner=5,
    ),
    ask(
        17,
        "2019-06-15",
        11,
        "How much should I drink during a marathon?",
        "hydration marathon",
        """<p>Some tell me to &quot;drink as much as possible&quot;, others say that people have died from <em>too much</em> water. \
5&nbsp;h finisher, about 60&nbsp;kg.</p>
""",
        owner=9,
        accepted=18,
        views=1678,
    ),
    answer(
        18,
        17,
        "2019-06-15",
        12,
        """<p>Both extremes are bad, and yes, drinking far beyond thirst has killed runners: it dilutes the sodium in the blood \
(exercise-associated hyponatraemia), and the brain swells. Slow, light runners on a course with many water stops are most at \
risk &ndash; that is you.</p>

<p><strong>Drink when you are thirsty.</strong> Weigh yourself before and after a long training run:</p>

<ul>
<li>weight &gt; start: you drank too much;</li>
<li>1 to 2&nbsp;% lighter: fine;</li>
<li>more than 2&nbsp;% lighter: drink somewhat more next time.</li>
</ul>
""",
        owner=4,
    ),
    answer(
        19,
        17,
        "2019-06-18",
        5,
        """<p>Headache, vomiting, confusion or swollen fingers during or after the race should make everybody think of \
hyponatraemia. Don't pour more water into that person; get the medical team.</p>

<p>Salt tablets do not protect somebody who keeps drinking too much.</p>
""",
        owner=7,
    ),
    Post(20, "2019-06-20", 0, "", kind=TAG_EXCERPT, owner=-1),
)

SITES = (
    Site("health.example", HEALTH, HEALTH_USERS, links=((57, 13, 3), (45, 1, 1), (53, 1, 1))),
    Site("fitness.example", FITNESS, pipes=False, licensed=False, line_end="\r\n"),
)


def _escape(value: object) -> str:
    return "".join(_ESCAPES.get(c, c) for c in str(value))


def _row(attributes: dict[str, object]) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in attributes.items() if value is not None)
    return f"  <row {' '.join(pairs)} />"


def _moment(day: str | None, number: int) -> str | None:
    """A time of day that follows from the post's number, in the dump's form."""
    if day is None:
        return None
    return f"{day}T{6 + number % 16:02}:{number * 7 % 60:02}:{number * 13 % 60:02}.{number * 37 % 1000:03}"


def _license(day: str) -> str:
    """The licence by date, as Stack Exchange states it for its users' contributions."""
    version = "2.5" if day < "2011-04-08" else "3.0" if day < "2018-05-02" else "4.0"
    return f"CC BY-SA {version}"


def _tags(tags: tuple[str, ...], pipes: bool) -> str | None:
    if not tags:
        return None
    return f"|{'|'.join(tags)}|" if pipes else "".join(f"<{tag}>" for tag in tags)


def _post(post: Post, site: Site) -> str:
    replies = [other for other in site.posts if other.parent == post.id]
    is_question = post.kind == QUESTION
    active = max(
        _moment(day, other.id)
        for other in (post, *replies)
        for day in (other.day, other.edited)
        if day is not None
    )
    return _row(
        {
            "Id": post.id,
            "PostTypeId": post.kind,
            "AcceptedAnswerId": post.accepted,
            "ParentId": post.parent,
            "CreationDate": _moment(post.day, post.id),
            "Score": post.score,
            "ViewCount": post.views,
            "Body": post.body,
            "OwnerUserId": post.owner,
            "OwnerDisplayName": post.owner_name,
            "LastEditorUserId": post.editor,
            "LastEditDate": _moment(post.edited, post.id),
            "LastActivityDate": active,
            "Title": post.title,
            "Tags": _tags(post.tags, site.pipes),
            "AnswerCount": len(replies) if is_question else None,
            "CommentCount": post.comments,
            "FavoriteCount": post.favorites,
            "ClosedDate": _moment(post.closed, post.id),
            "CommunityOwnedDate": _moment(post.wiki, post.id),
            "ContentLicense": _license(post.edited or post.day) if site.licensed else None,
        }
    )


def _user(number: int, name: str, day: str) -> str:
    return _row(
        {
            "Id": number,
            "Reputation": 1 if number < 0 else 101 + 37 * number,
            "CreationDate": _moment(day, number % 60),
            "DisplayName": name,
            "LastAccessDate": _moment("2024-03-12", number % 60),
            "Views": 3 * abs(number),
            "UpVotes": 5 * abs(number),
            "DownVotes": abs(number) % 4,
            "AccountId": number if number < 0 else 7000 + number,
        }
    )


def _link(number: int, link: tuple[int, int, int]) -> str:
    post, related, kind = link
    return _row(
        {
            "Id": number,
            "CreationDate": _moment("2024-03-12", number),
            "PostId": post,
            "RelatedPostId": related,
            "LinkTypeId": kind,
        }
    )


def _file(root: str, rows: list[str], line_end: str) -> bytes:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{root}>", *rows, f"</{root}>"]
    return b"\xef\xbb\xbf" + line_end.join(lines).encode("utf-8")


def files() -> dict[str, bytes]:
    """The sample's files: path below ``sample/`` to content."""
    found = {}
    for site in SITES:
        found[f"{site.name}/Posts.xml"] = _file("posts", [_post(p, site) for p in site.posts], site.line_end)
        if site.users:
            found[f"{site.name}/Users.xml"] = _file("users", [_user(*u) for u in site.users], site.line_end)
        if site.links:
            rows = [_link(number, link) for number, link in enumerate(site.links, 1)]
            found[f"{site.name}/PostLinks.xml"] = _file("postlinks", rows, site.line_end)
    return found


def write(folder: Path) -> None:
    """Writes the sample below `folder`; the same bytes on any machine."""
    for path, content in files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


if __name__ == "__main__":
    write(SAMPLE)
