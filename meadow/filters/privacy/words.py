"""Word lists of the name rules. A name is told by what introduces it; these say what is none after all.

The lists are kept by hand: `GIVEN` is no census but what makes "I'm Ann" a name and "I'm sure" none.
"""

from __future__ import annotations

#: Given names that are no other word, in lower case: enough to tell "my son Lucas" from "my son is".
GIVEN = frozenset(
    """
    aaron abby abdul abdullah abigail adam adele aditi aditya adrian adriana agnes ahmad ahmed aisha ajay akira alan
    alana albert alberto alejandra alejandro alex alexander alexandra alexis alfonso alfred ali alice alicia alina
    alison allison alyssa amanda amara amelia amina amir amit amy ana anastasia andre andrea andreas andres andrew
    andy angela angelica angelina anil anita anja anjali ann anna anne annette annie anthony antoine anton antonia
    antonio anya arjun armando arnold arthur arun asha ashley ashok astrid audrey ayesha ayse barbara beatrice
    beatriz becky ben benjamin bernadette bernard bernd beth betty beverly bianca bob bobby boris brandon brenda brent
    brian bridget brittany bruce bruno bryan caitlin caleb camila camille carl carla carlos carmen carol carolina
    caroline carolyn carrie catherine cathy cecilia celia chandra charles charlie charlotte cheryl chloe chris christa
    christian christina christine christoph christopher cindy claire clara claudia claudio colin connor corinne craig
    cristina cynthia daisuke daniel daniela danielle danny darren dave david deborah debbie debra deepak deepika denise
    dennis derek devon diana diane diego dieter dimitri dmitri dolores dominic dominik donald donna doris dorothy doug
    douglas duncan dylan eddie edith eduardo edward edwin eileen elaine elena eleanor elias elisa elizabeth ellen elsa
    emil emilia emilio emily emma enrique eric erica erik erika erin ernest esther ethan eugene eva evan evelyn
    fabian farah fatima fatma federico felipe felix fernanda fernando fiona florian frances francesca francesco
    francis francisco francois franz freddy frederick fritz gabriel gabriela gareth gary gavin geoff geoffrey george
    gerald gerard giovanni giulia gloria gopal gordon greg gregory greta guido guillermo gunther gustavo hamza hannah
    hans harold harry harvey hassan heidi heinz helen helena helga helmut henrik henry herbert hiroshi howard
    hugo ian ibrahim ines ingrid irene irina isaac isabel isabella ivan jack jackie jacob jacqueline jaime jake james
    jamie jan jane janet janice jared jasmine jason javier jay jeff jeffrey jennifer jenny jeremy jerome jerry jesse
    jessica jesus jill jim jimmy joan joanna joanne joe joel johan johannes john johnny jon jonas jonathan jorge jose
    josef joseph josh joshua joyce juan juanita judith judy julia julian juliana julie julien juliet jun juergen karen
    karin karl karla kate katherine kathleen kathryn kathy katie katja katrin kayla keith kelly ken kenji kenneth
    kevin khalid kim kimberly klaus kofi krishna kristen kristin kumar kurt kyle lakshmi lars latoya laura lauren
    laurence lawrence leah leila lena leo leon leonard leonardo leroy leslie liam lina linda lindsay lisa lloyd lois
    lorenzo loretta lorraine louis louise luca lucas lucia lucy luigi luis luisa luke lydia lynn madeleine madison
    magdalena maggie mahmoud manfred manuel manuela marc marcel marco marcos marcus margaret margarita maria mariam
    marianne marie marina mario marion marisa marjorie markus marlene martha martin martina marvin mary maryam
    mateo mathieu matt matteo matthew matthias maureen maurice max maxime megan mehmet mei melanie melinda melissa
    mercedes meredith michael michaela michel michele michelle miguel mike mikhail milena miriam mitchell mohamed
    mohammad mohammed molly monica monika moritz muhammad murali mustafa nadia nadine naomi natalia natalie natasha
    nathan neha neil nelson ngozi nicholas nick nicola nicolas nicole nikhil nikita nina noah noel nora norbert norma
    norman olaf oleg olga oliver olivia omar oscar osman otto pablo pamela paolo patricia patrick patty paul paula
    paulina pauline paulo pavel pedro peggy peter petra phil philip philipp philippe phillip phyllis pierre pilar
    pooja pradeep prakash priya rachel rafael raghav rahul raj rajesh ralf ralph ramesh ramon randy rani raphael raquel
    rashid rauf ravi raymond rebecca reinhard rekha renata rene ricardo richard rick ricky rita rob robert roberto
    robin rodrigo roger rohan roland roman ron ronald rosa rosalind rosemarie ross roxanne roy ruben rudolf ruth ryan
    sabine sabrina said salma sam samantha samir samuel sandeep sandra sandy sanjay santiago sara sarah sebastian
    selim serena sergei sergio shane shannon sharon shaun shawn sheila shelley sherry shirley shreya sigrid silke
    silvia simon simone sofia sonia sonja sophia sophie stacey stacy stefan stefanie stella stephan stephanie stephen
    steve steven stewart stuart sue sunil sunita suresh susan susana susanna susanne suzanne svetlana sven sylvia
    tamara tanja tanya tara tatiana ted terence teresa terry theo theodore theresa thomas tiffany tim timothy tina
    tobias todd tom tomas tomasz tommy toni tony tracy travis trevor tyler ulrich ulrike ursula uwe valentina valeria
    valerie vanessa vera veronica vicki vicky victor victoria vijay vikram vincent virginia vivian vladimir walter
    wanda wayne wendy werner wilhelm william willie wolfgang xavier xin yan yasmin yolanda yuki yusuf yves yvonne
    zachary zainab zoe
    """.split()
)

#: Given names that are words as well: names after "my name is", but no sign of one by themselves.
ALSO_WORDS = frozenset(
    """
    april art august basil bill charity chase dawn dean drew faith frank gene ginger grace grant guy hope iris ivy jean
    joy june lance lily mark may miles mohs pat penny pearl rich rob rose ruby sage said summer sue violet will
    """.split()
)

#: Words that begin sentences or stand where a name could, in lower case. None of them is taken for a name.
COMMON = frozenset(
    """
    a about above after again ago all almost alone already also although always am among an and another any anybody
    anyone anything anyway apart apparently are aren't around as ask asked at back bad based be because been before
    being below best better between beyond both bottom briefly bring but by call called can can't cannot card care case
    cases cause certainly chat check cheers choose clear clearly click close come comes common compared concerning
    consider considering consult contact continue could couldn't currently date dear default definitely depending
    describe despite did didn't different difficult do does doesn't don't done down due during each early easy edit
    either else end english enough especially etc even eventually ever every everybody everyone everything exactly
    example except explain far few final finally find fine first firstly follow following for former found free from
    full furthermore further general generally get getting give given go going good got great greetings had
    happy hard has hasn't have haven't having he he's hello help hence her here here's hers hey hi high him himself his
    home hope hopefully how however i i'd i'll i'm i've if ill important in include including indeed instead
    interested into is isn't it it's its itself just keep kind kindly know last lastly late later least less let
    let's like likely little long look looking lot love low made main mainly make makes many may maybe me mean means
    meanwhile might mine more moreover most mostly much must my myself name named names near nearly need neither
    never nevertheless new news next nice no nobody none nor normal normally not note nothing now nowadays number
    obviously of off often oh ok okay old on once one ones online only onto open or other others otherwise our ours
    out over overall own part particularly people perhaps person personally place please plus possible possibly post
    pre previous previously probably problem provided put question questions quick quite rather read ready really
    recently reference regarding regards related remember reply respectfully right sadly same save say says second
    secondly see seems seen send several shall she she's should shouldn't show similarly simple simply since sincerely
    sir so some somebody someone something sometimes soon sorry sounds special specifically still stop
    strong such suddenly suppose sure take takes talk team tell test tests than thank thankfully thanks that that's
    the their theirs them then there there's therefore these they they're thing things think third this those though
    three through throughout thus tip to today together tomorrow tonight too top total toward towards try trying two
    type typically under unfortunately unknown unless unlike until up update upon us use used user users using
    usually various very via view want wants was wasn't way we we'd we'll we're we've welcome well went were weren't
    what what's whatever when whenever where whereas wherever whether which while who whole whom whose why wide will
    wish wishes with within without won't wondering worst would wouldn't write wrong yeah yes yesterday yet you you'd
    you'll you're you've young your yours yourself truly faithfully warmly
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september
    october november december jan feb mar apr jun jul aug sep sept oct nov dec spring summer autumn winter christmas
    easter mom mum mother mothers dad father brother sister son daughter wife husband family friend friends boy girl
    man woman men women male female child children kid baby babies gentleman lady grandmother grandfather uncle aunt
    american african arab asian australian austrian belgian brazilian british canadian caucasian chinese dutch
    egyptian european filipino french german greek hispanic hungarian indian indonesian iranian iraqi irish israeli
    italian japanese jewish kenyan korean latin latino malaysian mexican muslim nepali nigerian norwegian pakistani
    persian polish portuguese romanian russian scottish spanish swedish swiss thai turkish ukrainian vietnamese
    catholic christianity buddhist hindu africa america asia australia britain canada china england europe
    germany india ireland italy japan london mexico pakistan russia spain uk usa
    """.split()
)

#: Words of medicine and of other trades that are capitalised in headings and forms: no names, either.
TRADE = frozenset(
    """
    abdomen abdominal abuse academy acid active acute addict address adhd adult agent aged allergic allergies allergy
    analysis anatomy anemia anxiety anxious appointment area arthritis artery assessment assistant association asthma
    asthmatic autism autistic back bacterial balance behavior benign beta bipolar bleeding blind blood board body
    bone brain breast cancer cardiac cardiologist cardiology cardiovascular cat cell cells center central centre
    chamber charge chart chemotherapy chest chief chief clinic clinical code college committee company complaint
    complete complication computer concerned condition conditions confused consultant control council
    counselor ct culture daily data deaf degree dementia dental dentist department depressed depressed depression
    dermatologist dermatology desperate detail details device diabetes diabetic diagnosed diagnosis diagnostic diet
    dietitian director disease diseases disorder doc doctor doctors dose drug drugs duct ear ecg editor effects
    emergency endocrinologist engineer epilepsy evaluation exam examination expert eye faculty fatigue fertility fever
    finding findings flu forum fracture gastro gastroenterologist genetic gland glucose google group gynecologist
    headache health healthcare healthy heart hepatitis herpes high history hiv hormonal hormone hospital hungry
    hypertension hypertensive ibs imaging impression infection infectious information injury institute instructor
    insulin intake interpretation intravenous issue issues jr junk kidney knee lab laboratory learning
    leg leukemia level levels license light line liver lobe lung lupus lymph lymphoma machine magnetic major
    manager manual married medical medication medications medicine mental method metformin migraine minor model
    molecular mri muscle name nausea neck nerve network neurologist neurology node normal nose notes nurse nutrition
    nutritionist ob obese obesity obgyn office oncologist oncology operator ophthalmologist option optometrist
    oral order organ orthopedic outpatient overweight paediatrician pain palsy panic patient patients pediatric
    pediatrician pelvic performer phd phenomenon phobia physical physician physicians physics physio physiotherapist
    placebo plan point positive practitioner pregnancy pregnant prescription primary procedure product professor
    profile program prostate provider psychiatric psychiatrist psychologist psychology radiologist radiology rash
    reaction recommendation recovery rehab relief report reports request research resonance response result
    results review rheumatologist risk room scan scared schizophrenia school science scientist score section seizure
    self senior serum services severe sex sexual shot sick side sign signs single sinus skin sleep smoker social
    software specialist specialists spine staff stage standard status std stomach stress stroke student
    student study subject summary support surgeon surgery surgical symptom symptoms syndrome system table teacher
    technician technology test testing therapist therapy thyroid tired tissue title tool toxic train treatment
    trial tumor tumour tumors ulcer ultrasound unit university urine urologist urology use vaccine vein version
    veterinarian viral virus visit vitamin ward warning weight worried wound xray
    lead ecg street view city state county country national international royal
    foundation society system journal press book chapter figure table volume edition series
    prospective retrospective randomized randomised background objective methods conclusion md phd rn msc bsc mph false true
    dr mr mrs ms mx prof cross-sectional
    admin administrator moderator assistant ai bot chatbot chatdoctor overflow stack community support
    """.split()
)

#: Figures of fiction and of speech, and brands, after "Dr." with nothing else to the name.
NOBODY = frozenset(
    """
    house who google strange oz phil pepper martens scholl scholls seuss evil no dre jekyll watson internet
    frankenstein dolittle doolittle spock doom wikipedia youtube strangelove octopus moreau's bronner hyde robot mom
    manhattan bean potato beast t spock universe world
    """.split()
)

#: Surnames in names of diseases, signs, devices and methods, in lower case: what tells Parkinson's essay
#: of 1817 from a Mr. Parkinson of today is what stands around it.
EPONYMS = frozenset(
    """
    addison alport alzheimer anderson apert apgar asperger babinski bacon baker bancroft banting barr barrett bartholin
    bartter basedow bayes becker beck behcet bell bence bernard best billroth blalock boerhaave bohr bowen bowman boyle
    bright broca brodmann broviac brown brugada bruton budd buerger burkitt calve carpenter celsius charcot chagas
    cheyne chiari chopart christmas chvostek clutton colles conn cooley coombs cooper cori courvoisier cowper coxsackie
    creutzfeldt crick crigler crohn cullen curie curling cushing dandy darwin denver doppler down dressler duchenne
    duke dupuytren ebstein edwards ehlers danlos einthoven eisenmenger epstein erb eustachian ewing fabry fallopian
    fallot fanconi fleming foley fournier franklin freud friedreich galen galeazzi gardner gaucher gehrig geiger
    gilbert giemsa gleason goodpasture gram graves guillain barre guthrie halsted harrison hartmann harvey hashimoto
    heberden heimlich heister henoch hering hickman hippocrates hirschsprung hodgkin hofmann hoffman holter homan
    homans horner hubel hunter huntington hurler hutchinson jackson jacksonian jacob jakob janeway jenner jones
    kaposi kaplan kaplan kartagener kawasaki kegel kelvin kernig brudzinski klein klinefelter koch kocher koplik
    korotkoff korsakoff krebs kuntscher kupffer kussmaul lachman laennec langerhans langhans larrey lasegue legg
    leopold lesch lewy leydig lhermitte liddle lister ludwig lyme mallory mantoux marfan marshall mayo mcburney
    mcmurray meckel meigs meniere mendel meyer michaelis menten moebius mohs monteggia montgomery moro morton munchausen murphy
    neisser newton nightingale nissen nissl ohm ortolani barlow osgood osler paget pancoast panner papanicolaou
    parkinson pasteur patau pavlov perkins perthes peutz jeghers peyer peyronie pfannenstiel phalen pick poiseuille
    pompe pott potts pratt prinzmetal purkinje queckenstedt quincke ramsay ranvier rathke raynaud reed reiter rett
    reye rhesus riedel rinne robin romano romberg rorschach roth roux sabin sachs salk salmonella sanger sauerbruch
    schatzki schilling schlatter schleiden schlemm schwann semmelweis sertoli sever sheehan shy simmonds sims sjogren
    skene skinner smith snellen snow spitz starling stein still stokes sturge swan swann sydenham takayasu
    tanner taussig tay thomas tietze tinel todd tourette trendelenburg trousseau turing turner valsalva vater
    venn vesalius vincent virchow volkmann waldenstrom waterhouse watson weber wegener weil wells wernicke
    werner wharton whipple wilms wilson willebrand willis wolff parkinson white wright zenker ziehl zollinger ellison
    """.split()
)
