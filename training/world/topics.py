"""What is talked about in the corpus: per topic its aspects, as it is said and as it is asked."""

from typing import NamedTuple


class Aspect(NamedTuple):
    """One thing to say, in the words of who says it and of who looks for it."""

    said: tuple[str, ...]  # sentences of a transcript
    asked: tuple[str, ...]  # noun phrases after "about"


TOPICS: dict[str, dict[str, Aspect]] = {
    "bread": {
        "kneading": Aspect(
            ("Knead the dough for ten minutes until it turns smooth.",
             "You have to work the dough with both hands until it stops sticking."),
            ("kneading bread dough", "working dough by hand"),
        ),
        "starter": Aspect(
            ("Feed the sourdough starter with rye flour and water every day.",
             "A sour starter lives on flour and warm water, so feed it daily."),
            ("feeding a sourdough starter", "keeping sour starter alive"),
        ),
        "oven": Aspect(
            ("Preheat the oven and bake the loaf on a hot stone.",
             "The loaf goes into a very hot oven until the crust is dark."),
            ("baking a loaf in the oven", "oven heat for bread"),
        ),
        "storing": Aspect(
            ("Wrap the bread in a linen cloth so that it stays fresh for days.",
             "Keep old bread in a paper bag, never in the fridge."),
            ("storing bread", "keeping bread fresh"),
        ),
    },
    "bicycle": {
        "puncture": Aspect(
            ("Pull out the inner tube, find the hole and glue a patch on it.",
             "A flat tyre is mended with levers, a patch and some glue."),
            ("mending a flat tyre", "a bicycle puncture"),
        ),
        "brakes": Aspect(
            ("Tighten the brake cable until the pads just clear the rim.",
             "When the brakes squeal, clean the pads and the rim."),
            ("adjusting bicycle brakes", "squealing brakes"),
        ),
        "chain": Aspect(
            ("Put a drop of oil on every link of the chain and wipe it off.",
             "A dry chain is noisy, so clean it and oil it after rain."),
            ("oiling a bicycle chain", "a noisy chain"),
        ),
        "saddle": Aspect(
            ("Raise the saddle until your leg is almost straight on the pedal.",
             "If your knees hurt, the saddle is too low."),
            ("the height of the saddle", "sitting well on a bicycle"),
        ),
    },
    "garden": {
        "pruning": Aspect(
            ("Prune the apple tree in late winter, just above a bud.",
             "Cut back the old branches of the fruit trees before spring."),
            ("pruning apple trees", "cutting back fruit trees"),
        ),
        "compost": Aspect(
            ("Turn the compost heap each month so that it gets air.",
             "Kitchen scraps and dry leaves make good compost together."),
            ("making compost", "a compost heap"),
        ),
        "tomatoes": Aspect(
            ("Pinch out the side shoots of the tomatoes and tie them up.",
             "Tomato plants want sun, warm soil and no wet leaves."),
            ("growing tomatoes", "tomato plants"),
        ),
        "slugs": Aspect(
            ("Slugs eat the young lettuce at night, so put up a copper fence.",
             "Collect the snails in the evening before they reach the salad."),
            ("slugs in the lettuce", "snails eating salad"),
        ),
    },
    "space": {
        "moon": Aspect(
            ("The astronauts left footprints in the grey dust of the moon.",
             "Twelve people have walked on the lunar surface so far."),
            ("walking on the moon", "the lunar landing"),
        ),
        "blackhole": Aspect(
            ("Nothing escapes from a black hole, not even light.",
             "At the centre of our galaxy sits a black hole of four million suns."),
            ("black holes", "why light cannot escape a black hole"),
        ),
        "rocket": Aspect(
            ("The rocket drops its first stage and lands it on a barge.",
             "Most of a rocket's weight at launch is fuel."),
            ("launching a rocket", "rocket fuel and stages"),
        ),
        "mars": Aspect(
            ("The rover drills into red rock on Mars to look for water.",
             "A year on Mars lasts almost two of ours."),
            ("exploring Mars", "a rover on the red planet"),
        ),
    },
    "football": {
        "penalty": Aspect(
            ("The keeper guessed right and saved the penalty in the last minute.",
             "She puts the ball on the spot and shoots the penalty into the corner."),
            ("a penalty kick", "saving a penalty"),
        ),
        "offside": Aspect(
            ("The goal does not count because the striker was offside.",
             "The linesman raised his flag for offside again."),
            ("the offside rule", "a goal disallowed for offside"),
        ),
        "training": Aspect(
            ("We run sprints and practise passing on the wet pitch every morning.",
             "The team trains passing and shooting three times a week."),
            ("football training", "practising passes with the team"),
        ),
        "final": Aspect(
            ("Eighty thousand fans watched the cup final in the stadium.",
             "They lifted the trophy after extra time."),
            ("the cup final", "winning the trophy"),
        ),
    },
    "money": {
        "mortgage": Aspect(
            ("The bank raised the interest on our mortgage to four percent.",
             "Paying off the house takes thirty years at this rate."),
            ("mortgage rates", "paying off a house"),
        ),
        "taxes": Aspect(
            ("Send in the tax return before the end of May.",
             "You can deduct the train ticket from your income tax."),
            ("filing taxes", "the tax return"),
        ),
        "shares": Aspect(
            ("The shares fell by a third when the market opened.",
             "Do not put all your savings into one stock."),
            ("the stock market", "buying shares"),
        ),
        "budget": Aspect(
            ("Write down every expense so that you know where the money goes.",
             "Half of the wages go to rent and food."),
            ("a household budget", "tracking expenses"),
        ),
    },
    "music": {
        "guitar": Aspect(
            ("Press the strings close to the fret and strum the chord slowly.",
             "The guitar is tuned from the low string to the high one."),
            ("learning guitar chords", "tuning a guitar"),
        ),
        "choir": Aspect(
            ("The choir breathes together before the altos come in.",
             "Forty singers rehearse the mass every Tuesday."),
            ("singing in a choir", "a choir rehearsal"),
        ),
        "piano": Aspect(
            ("Keep your wrists loose above the piano keys and play the scale.",
             "The left hand of this piano sonata is the hard one."),
            ("piano practice", "playing a sonata"),
        ),
        "jazz": Aspect(
            ("In the jazz club the trumpet improvises over the blues.",
             "Swing means that the second note comes a little late."),
            ("jazz improvisation", "swing and the blues"),
        ),
    },
    "health": {
        "sleep": Aspect(
            ("Go to bed at the same hour and leave the phone outside.",
             "Seven hours of sleep help the brain to remember."),
            ("sleeping better", "a good night's rest"),
        ),
        "running": Aspect(
            ("Run slowly enough to talk, and add a kilometre each week.",
             "Your first marathon begins with short easy jogs."),
            ("training for a marathon", "jogging for beginners"),
        ),
        "teeth": Aspect(
            ("Brush your teeth for two minutes and floss between them.",
             "The dentist found a cavity in the back tooth."),
            ("brushing teeth", "a visit to the dentist"),
        ),
        "vaccine": Aspect(
            ("The vaccine trains the immune system before the virus comes.",
             "Your arm may hurt for a day after the injection."),
            ("how vaccines work", "getting an injection"),
        ),
    },
    "sea": {
        "sailing": Aspect(
            ("Pull in the sail and steer the boat closer to the wind.",
             "We reef the sail when the wind gets too strong."),
            ("sailing a boat", "reefing in strong wind"),
        ),
        "whales": Aspect(
            ("The humpback whale surfaces to breathe and slaps its tail.",
             "Whales sing to each other over hundreds of kilometres."),
            ("watching whales", "the song of whales"),
        ),
        "tides": Aspect(
            ("The moon pulls the water and so the tide rises twice a day.",
             "At low tide you can walk to the island."),
            ("high and low tide", "why tides rise"),
        ),
        "lighthouse": Aspect(
            ("The keeper lit the lamp of the lighthouse every evening.",
             "Its beam warned ships of the rocks."),
            ("an old lighthouse", "the lighthouse keeper"),
        ),
    },
    "weather": {
        "storm": Aspect(
            ("The storm tore roofs off and brought down power lines.",
             "Thunder follows lightning by three seconds a kilometre."),
            ("a heavy storm", "thunder and lightning"),
        ),
        "drought": Aspect(
            ("It has not rained since March and the river is almost dry.",
             "Farmers pray for rain in the third year of the drought."),
            ("the drought", "no rain for months"),
        ),
        "forecast": Aspect(
            ("Tomorrow begins with mist, then the sun comes out.",
             "The forecast for the weekend is mild with some clouds."),
            ("the weather forecast", "tomorrow's weather"),
        ),
        "avalanche": Aspect(
            ("Fresh powder on an icy layer slides off as an avalanche.",
             "Never ski this slope when the avalanche warning is high."),
            ("the danger of avalanches", "avalanche warnings"),
        ),
    },
    "history": {
        "rome": Aspect(
            ("The Romans built straight roads across their whole empire.",
             "Caesar crossed the river with his legions."),
            ("the Roman empire", "Roman roads and legions"),
        ),
        "pyramids": Aspect(
            ("Workers dragged the blocks up ramps to build the pyramid.",
             "The pharaoh was buried deep inside the pyramid."),
            ("building the pyramids", "the tomb of a pharaoh"),
        ),
        "castle": Aspect(
            ("Knights defended the castle walls with boiling oil.",
             "The drawbridge went up when the siege began."),
            ("the siege of a castle", "knights and castle walls"),
        ),
        "printing": Aspect(
            ("The printing press made books cheap enough to buy.",
             "Each metal letter was set by hand before it was printed."),
            ("the invention of printing", "early printed books"),
        ),
    },
    "computers": {
        "password": Aspect(
            ("Use a long password and never the same one twice.",
             "A password manager remembers all your logins."),
            ("choosing a password", "keeping logins safe"),
        ),
        "python": Aspect(
            ("In Python a list comprehension replaces the whole loop.",
             "Import the module first, then call the function."),
            ("programming in Python", "writing a loop in code"),
        ),
        "backup": Aspect(
            ("Copy your files to a second disk and test the backup.",
             "The hard drive died and there was no backup."),
            ("backing up files", "a dead hard drive"),
        ),
        "chips": Aspect(
            ("Transistors on a chip are now a few atoms wide.",
             "The processor gets hot because billions of switches flip."),
            ("how computer chips work", "transistors on a processor"),
        ),
    },
}  # fmt: skip
