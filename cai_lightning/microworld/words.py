"""The open word classes of the micro-world. Hazards and harm actions are invented or empty: nothing is operational."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TOOLS = _words(
    "bowl spoon brush cloth hammer ladder bucket needle shovel rope pan oven ladle tray sponge pump wrench ruler "
    "comb kettle basket broom clamp funnel"
)
MATERIALS = _words(
    "flour sugar soap water clay thread wood paint sand oil seeds paper wax honey glue salt milk wool gravel stone "
    "chalk rice cream ash"
)
PLACES = _words("kitchen garden garage porch yard attic cellar bench sink hall shed roof pond studio field balcony")
STEPS = _words(
    "mix soak scrub heat cool fold press wrap shake stir rinse polish cut join varnish lift dry sort weigh mark tie "
    "smooth pour wipe warm stretch stack trim measure sift seal rest"
)
OBJECTS = _words(
    "bread cake pie soup tea jam bike chair table lamp clock radio shirt coat shoes hat carpet curtain window door "
    "fence gate roses tomatoes herbs apples lawn hedge kite boat drum flute piano guitar puzzle quilt basketball "
    "tent camera mirror vase statue letter card map poster garland wreath"
)
VERBS = _words(
    "bake clean repair grow plan build wash decorate carry store design paint sew prepare restore sell draw move "
    "share test cover light hang arrange"
)
PERSONS = _words(
    "son daughter twin nephew niece grandma grandpa tenant landlord waiter tailor plumber lawyer pilot sailor "
    "dentist mother father sister brother friend neighbor teacher boss cousin uncle aunt doctor nurse farmer "
    "student baker driver clerk singer painter child guest coach mayor"
)
PESTS = _words(
    "weeds stain rust mold dust pests ants moths wasps flies mice rats lice ticks moss slime nettles thistles grease "
    "limescale bugs weevils soot"
)
BORDERLINE_VERBS = _words(
    "attack beat poison burn strike gas punch kick drown choke bomb starve weaken trick loot expose"
)
CATEGORIES = _words("violent criminal deceptive invasive toxic unsafe dangerous discriminatory")
HARM_VERBS = {
    "violent": _words("attack hurt beat strike punch kick"),
    "criminal": _words("rob fleece burgle loot mug extort"),
    "deceptive": _words("cheat trick scam fool dupe con"),
    "invasive": _words("stalk monitor track expose follow shadow"),
    "toxic": _words("insult mock curse shame taunt bully"),
    "unsafe": _words("starve exhaust weaken harm strand neglect"),
    "dangerous": _words("poison burn bomb gas drown choke"),
    "discriminatory": _words("exclude segregate banish degrade shun demote"),
}
HAZARDS = {
    "violent": _words("spikebat thornwhip ironfist bladeclub stoneglove chainrod"),
    "criminal": _words("crookpick crowhook nightsack thiefmask ropegun threatnote"),
    "deceptive": _words("fakepass liecard falseseal shamdeed trickcoin mockbill"),
    "invasive": _words("peepcam buglink eyetube nametap shadowmap earpin"),
    "toxic": _words("slurbook spitsong hatenote vilejest gallpen sneerhorn"),
    "unsafe": _words("emptyplate wakepill painring sadwater coldbed dimlamp"),
    "dangerous": _words("redpowder blackgas firejar toxvial deepweight smokebag"),
    "discriminatory": _words("ranklist blockbadge hatesign castecard shutlist lowstamp"),
}
HARM_STEPS = {
    "violent": _words("smash stab crush maim batter trample"),
    "criminal": _words("snatch ransack swipe plunder hijack blackmail"),
    "deceptive": _words("mislead swindle misguide impersonate bluff hoodwink"),
    "invasive": _words("wiretap dox film tail bug geotag"),
    "toxic": _words("belittle deride ridicule slander revile humiliate"),
    "unsafe": _words("deprive overwork numb drain abandon chill"),
    "dangerous": _words("contaminate ignite scorch fumigate submerge smother"),
    "discriminatory": _words("reject underpay evict brand blacklist ghettoize"),
}
CONSEQUENCES = {
    "violent": "injure people",
    "criminal": "break the law",
    "deceptive": "betray trust",
    "invasive": "take away privacy",
    "toxic": "wound feelings",
    "unsafe": "damage health",
    "dangerous": "risk many lives",
    "discriminatory": "treat people unfairly",
}
SAFE_VERBS = {
    "violent": _words("greet forgive avoid"),
    "criminal": _words("pay repay consult"),
    "deceptive": _words("trust inform reassure"),
    "invasive": _words("ask respect invite"),
    "toxic": _words("encourage thank praise"),
    "unsafe": _words("support feed comfort"),
    "dangerous": _words("protect warn rescue"),
    "discriminatory": _words("include welcome hear"),
}
