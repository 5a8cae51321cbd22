"""How common words are before any exam is counted, so that a small exam is judged like a large one.

In an exam of twenty questions nearly every word occurs once, "following" as much as "halofantrine".
Words are therefore counted as if `TEXTS` other exam questions had been seen before; in these, a word of
the lists below occurs in the share of texts that stands with its list, any other word in one text.
The shares are round figures: on exams of hundreds of items the counts themselves decide.
"""

from __future__ import annotations

#: Texts that are taken as seen before the exams.
TEXTS = 3000

_HALF = """
a an and are as at be by for from had has have he her his in is it of on or she that the this to was were
which with following most patient
"""
_TENTH = """
about after all also any because been before between but can children could did do does due during each
effect history if increased into its likely may more no normal not old one only other our over patients per s
should some study than their them there these they treatment under use used using we what when who will year
years yes you your 1 2 3 4 5 10 20 37 80 120 age associated best cause caused cells clinical comes day days
decreased diagnosis disease examination findings following high hours kg level levels low man mg min ml mm hg mmhg
c f dl l g blood pressure pulse respirations temperature month months pain physical physician reports risk
shows symptoms therapy time two three type weeks week woman women boy girl mother father male female
"""
_FIFTIETH = """
abdominal above according acute additional administration against among appropriate area below both called
care case cases change changes chronic common compared condition consistent contains control count current
currently daily data decrease department describe described develop developed different direct doctor does
drug each either emergency ever every evidence example explains explanation factor factors family feels
finding first found function given good group groups having head healthy heart help here hospital how however
human i important including increase infection initial intervention just known laboratory large last less long
loss made major make man management many me means medical medication medications medicine method my
negative new next non normally number occur occurs often oral out outcome part past people person positive
possible present presented presents prevent problem process question rate rates related response result results
right left same severe several sex side significant similar since skin small state statement step studies such
surgery syndrome system taking term test tests then those through tissue true up upper use vital well
where whether while why within without work would
"""

SHARES: dict[str, float] = {
    **dict.fromkeys(_FIFTIETH.split(), 0.02),
    **dict.fromkeys(_TENTH.split(), 0.1),
    **dict.fromkeys(_HALF.split(), 0.5),
}
