"""Texts that language filters are tested on, all written for these tests, and the real ones.

`ENGLISH` is full of what is not English in English medical writing: drug names, Latin anatomy, lab
values, genes, codes, formulas. `LATIN` is the same without a sentence around it. `FOREIGN` holds
other languages, with drug names and values in them as well.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from meadow.builders.flashcards.builder import Flashcards
from meadow.core.builder import Shard
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example
from meadow.parse.htmltext import html_to_text

#: English prose with drugs, anatomy, values, genes, codes, names of people and places.
ENGLISH = (
    "Musculus sternocleidomastoideus: which nerve supplies it?\nThe accessory nerve (nervus accessorius, CN XI).",
    "Musculus biceps brachii: origin of the long head?\nTuberculum supraglenoidale of the scapula.",
    "Which nerve runs in the sulcus nervi radialis of the humerus?\nThe radial nerve, together with the arteria profunda brachii.",
    "The nervus vagus leaves the skull through the foramen jugulare.",
    "Arteria thoracica interna: where does it end?\nIt divides into the arteria musculophrenica and the arteria epigastrica superior.",
    "The ligamentum hepatoduodenale holds the ductus choledochus, the vena portae and the arteria hepatica propria.",
    "Tensor fasciae latae, gluteus medius and gluteus minimus are all supplied by the superior gluteal nerve.",
    "What passes through the canalis obturatorius?\nObturator nerve, artery and vein.",
    "Substantia nigra pars compacta loses its dopaminergic neurons in Parkinson disease.",
    "Levator labii superioris alaeque nasi lifts the upper lip and widens the nostril.",
    "Staphylococcus aureus, Streptococcus pyogenes and Pseudomonas aeruginosa were grown from the wound.",
    "Clostridioides difficile colitis after clindamycin: give oral vancomycin or fidaxomicin.",
    "Plasmodium falciparum and Plasmodium vivax differ in how long they stay in the liver.",
    "Entamoeba histolytica, Giardia lamblia and Cryptosporidium parvum all cause diarrhea.",
    "Amoxicillin, azithromycin, ciprofloxacin, doxycycline, metronidazole: which of them is a fluoroquinolone?\nCiprofloxacin.",
    "Adalimumab, infliximab and golimumab bind TNF-alpha; ustekinumab binds the p40 subunit of IL-12 and IL-23.",
    "Lisinopril, enalapril and ramipril may cause a dry cough; losartan, valsartan and candesartan rarely do.",
    "Carbamazepine, phenytoin and rifampicin induce CYP3A4; ketoconazole, ritonavir and clarithromycin inhibit it.",
    "Paracetamol overdose: give N-acetylcysteine.",
    "Levothyroxine 75 mcg PO daily, metformin 850 mg PO BID, atorvastatin 20 mg PO QHS, apixaban 5 mg PO BID.",
    "Tab. amlodipine 5 mg od, tab. telmisartan 40 mg od, inj. enoxaparin 40 mg sc od for five days.",
    "Na 138 mmol/L, K 4.1 mmol/L, Cl 102 mmol/L, HCO3 24 mmol/L, BUN 14 mg/dL, creatinine 0.9 mg/dL, glucose 96 mg/dL.",
    "Hb 9.2 g/dL, MCV 71 fL, MCH 23 pg, ferritin 6 ng/mL: iron deficiency anaemia.",
    "ABG: pH 7.21, PaCO2 28 mmHg, PaO2 96 mmHg, HCO3 11 mEq/L. What is the acid-base disorder?\nMetabolic acidosis with respiratory compensation.",
    "BP 150/95 mmHg, HR 112/min, RR 24/min, T 38.6 C, SpO2 91 % on room air.",
    "WBC 14.2 x 10^9/L, CRP 186 mg/L, procalcitonin 4.8 ng/mL, lactate 3.9 mmol/L: treat as sepsis.",
    "BRCA1 and BRCA2 mutations raise the risk of breast and ovarian cancer; TP53 mutations cause Li-Fraumeni syndrome.",
    "CFTR F508del, HBB E6V, HFE C282Y, JAK2 V617F: match each variant to its disease.",
    "KRAS, NRAS and BRAF should be sequenced before cetuximab or panitumumab is given.",
    "t(9;22)(q34;q11) makes BCR-ABL1; imatinib, dasatinib and nilotinib inhibit its kinase.",
    "46,XX,der(14;21)(q10;q10),+21 is a karyotype of translocation Down syndrome.",
    "ICD-10 codes on discharge: I10, E11.9, N18.3, J44.1, Z79.4. Which of them stands for diabetes?\nE11.9",
    "α-Synuclein, β-amyloid and τ aggregate in different diseases. Which one makes Lewy bodies?\nα-Synuclein.",
    "Antibodies against β2-glycoprotein I, anti-Ro/SSA, anti-La/SSB and anti-dsDNA were requested.",
    "γ-Glutamyltransferase 212 U/L, alkaline phosphatase 480 U/L, bilirubin 6.1 mg/dL.",
    "The clearance is $C = \\frac{U \\cdot V}{P}$, where U and P are the concentrations in urine and plasma.",
    "Mean arterial pressure is \\(MAP = DBP + \\frac{1}{3}(SBP - DBP)\\). For 120/80 it is 93 mmHg.",
    "Henderson-Hasselbalch: \\[pH = 6.1 + \\log_{10}\\frac{[HCO_3^-]}{0.03 \\cdot P_{CO_2}}\\] gives 7.4 for normal values.",
    "C6H12O6 + 6 O2 -> 6 CO2 + 6 H2O sums up aerobic respiration.",
    "NaHCO3, KCl, CaCl2, MgSO4: which of them is given in torsades de pointes?\nMgSO4, magnesium sulfate.",
    "Read the trial at https://example.org/essai/resultats-de-la-cohorte?langue=fr before the journal club.",
    "A) Haemophilus influenzae B) Moraxella catarrhalis C) Neisseria meningitidis D) Listeria monocytogenes\nAnswer: C",
    "Murphy, Courvoisier, Rovsing, Blumberg, McBurney: which sign points to the gallbladder?\nMurphy's sign.",
    "Henoch-Schönlein purpura, Guillain-Barré syndrome, Sjögren syndrome and Ménière disease are all eponyms.",
    "Behçet disease causes oral and genital ulcers. Takayasu arteritis spares neither the aorta nor its branches.",
    "Torsades de pointes, grand mal, petit mal, café au lait spots and cri du chat keep their French names in English.",
    "Mittelschmerz, Gestalt, Zeitgeber and Anlage are German words used in English medical texts.",
    "Placenta praevia, placenta accreta, abruptio placentae, hydrops fetalis and mola hydatidosa.\nWhich of these bleeds without pain?\nPlacenta praevia.",
    "Rx: prednisone 40 mg po qd x 5 d, then stop. Sig: one tablet with food. Disp: #5.",
    "Pt c/o SOB, DOE x 3 d; PMH: HTN, DM2, CAD s/p CABG, CHF (EF 30 %). Meds: ASA, furosemide, carvedilol.",
    "54M w/ STEMI s/p PCI to LAD, now c/o CP. ECG: new LBBB. Troponin I 8.2 ng/mL.",
    "NPO after midnight. Ondansetron PRN. DVT prophylaxis: enoxaparin 40 mg SC daily.",
    "A 62-year-old man has hemoptysis and hyponatremia. Serum sodium is 118 mEq/L. What is the most likely tumor?\nSmall cell carcinoma of the lung.",
    "What is the first-line treatment of an anaphylactic reaction?\nIntramuscular epinephrine 0.5 mg into the thigh.",
    "Erythema migrans, acrodermatitis chronica atrophicans and lymphadenosis cutis benigna are skin signs of Lyme borreliosis.",
    "Pityriasis rosea, lichen planus, psoriasis vulgaris, tinea versicolor: which begins with a herald patch?\nPityriasis rosea.",
    "Lupus pernio, lupus vulgaris and lupus erythematosus are three different diseases.",
    "Status asthmaticus, status epilepticus, delirium tremens and rigor mortis are Latin phrases.",
    "Cor pulmonale is a dilated right ventricle caused by lung disease.",
    "Diabetes mellitus and diabetes insipidus have little in common except polyuria.",
    "Atropa belladonna, Digitalis purpurea and Colchicum autumnale are poisonous plants with medical uses.",
    "Taenia solium, Echinococcus granulosus and Trichinella spiralis reach people through food.",
    "Os scaphoideum, os lunatum, os triquetrum, os pisiforme form the proximal row of carpal bones.",
    "Processus coracoideus: which muscles are attached to it?\nPectoralis minor, coracobrachialis and the short head of the biceps.",
    "The flexor digitorum profundus bends the distal interphalangeal joints; the flexor digitorum superficialis bends the proximal ones.",
    "Tetralogy of Fallot: pulmonary stenosis, overriding aorta, ventricular septal defect, right ventricular hypertrophy.",
    "Dopamine, noradrenaline, adrenaline, serotonin, histamine, acetylcholine: which is not a monoamine?\nAcetylcholine.",
    "Alanine, arginine, asparagine, aspartate, cysteine, glutamate, glutamine, glycine: which is the smallest?\nGlycine.",
    "Pancreatic adenocarcinoma, cholangiocarcinoma, hepatocellular carcinoma, gastrointestinal stromal tumor.",
    "Hypertension\nHyperlipidemia\nObstructive sleep apnea\nGastroesophageal reflux disease\nOsteoarthritis",
    "Nausea, vomiting, abdominal pain, diarrhea, fever, chills, fatigue, headache",
    "Autosomal dominant, autosomal recessive, X-linked recessive, mitochondrial",
    "Bradykinin, substance P, calcitonin gene-related peptide",
    "Glioblastoma multiforme shows pseudopalisading necrosis.",
    "A 45-year-old man, José Núñez, came from São Paulo with fever; thick films showed Plasmodium vivax.",
    "Zürich, Köln, Genève, Málaga and Łódź took part in the trial; 812 patients were randomised.",
    "Müller et al. and García-Martínez et al. came to the same result: no benefit of early dialysis.",
    "WHICH DRUG REVERSES HEPARIN? PROTAMINE SULFATE.",
    "MECHANISM OF ACTION OF METHOTREXATE: INHIBITS DIHYDROFOLATE REDUCTASE.",
    "Use this to read the scan:\n\n```python\nimport nibabel\nbild = nibabel.load('gehirn.nii')\nfuer_alle = [schicht.mean() for schicht in bild.dataobj]\n```\n\nThe mean of each slice is then in the list.",
    "Call `ergebnis_der_untersuchung.berechnen()` first, and then plot what it returned.",
    "Insulin lispro, insulin aspart, insulin glargine, insulin degludec: which of them acts longest?\nInsulin degludec.",
    "Hepatitis B serology: HBsAg negative, anti-HBs positive, anti-HBc negative. What does it mean?\nImmunity after vaccination.",
    "McArdle disease: lack of muscle glycogen phosphorylase. Von Gierke disease: lack of glucose-6-phosphatase.",
    "Ca2+ enters through L-type channels; the sarcoplasmic reticulum takes it back up through SERCA.",
    "TSH <0.01 mIU/L, fT4 38 pmol/L, TRAb positive: Graves disease. Start carbimazole and propranolol.",
    "FEV1/FVC 0.58, FEV1 62 % predicted, DLCO 48 %: emphysema.",
    "Gravida 3, para 2, abortus 0; cervix 6 cm, vertex at -1 station, CTG category I.",
    "Musculi interossei dorsales abduct the fingers, musculi interossei palmares adduct them.",
    "Pes anserinus: sartorius, gracilis, semitendinosus.",
    "Hallux valgus, genu varum, coxa vara, pes cavus: which is a bunion?\nHallux valgus.",
    "Mycobacterium avium-intracellulare, Pneumocystis jirovecii, Toxoplasma gondii: prophylaxis depends on the CD4 count.",
    "Trastuzumab deruxtecan, sacituzumab govitecan, brentuximab vedotin and enfortumab vedotin are antibody-drug conjugates.",
    "Ipratropium, tiotropium, salmeterol, formoterol, budesonide, fluticasone, montelukast, roflumilast: inhaled or oral?",
    "Foramen ovale: which nerve?\nMandibular nerve (V3).",
    "Fossa cubitalis, from lateral to medial: biceps tendon, brachial artery, median nerve.",
    "Is the risk of falls raised by zolpidem? Yes (OR 1.72; 95 % CI 1.37-2.16; p < 0.001).",
    "The genes ABL1, EGFR, ERBB2, FGFR3, IDH1, KIT, MET, NTRK1, PIK3CA, RET and ROS1 were on the panel.",
)

#: Terms alone, mostly Latin: no language can be told, and none may be read into them.
LATIN = (
    "ascites; dysphagia; dysuria; aphasia; seizure; vertigo",
    "fever nocturia ascites palpitations dysuria",
    "myalgia\ntremor\nascites\nsyncope",
    "Musculus biceps brachii: origo?\nTuberculum supraglenoidale",
    "Musculus sternocleidomastoideus\nNervus accessorius",
    "Nervus vagus",
    "Musculus latissimus dorsi / Nervus thoracodorsalis",
    "Arteria carotis interna, arteria carotis externa, vena jugularis interna, nervus vagus",
    "Musculus gluteus maximus\nNervus gluteus inferior",
    "Foramen magnum, foramen jugulare, foramen ovale, foramen rotundum, foramen spinosum",
    "Os scaphoideum, os lunatum, os triquetrum, os pisiforme, os trapezium, os capitatum, os hamatum",
    "Ligamentum cruciatum anterius, ligamentum cruciatum posterius, ligamentum collaterale tibiale",
    "Truncus coeliacus: arteria gastrica sinistra, arteria lienalis, arteria hepatica communis",
    "Cor, hepar, lien, ren, pulmo, ventriculus, duodenum, jejunum, ileum, caecum, colon, rectum",
    "Staphylococcus aureus; Streptococcus pneumoniae; Klebsiella pneumoniae; Escherichia coli",
    "Musculus flexor digitorum superficialis\nNervus medianus",
    "Nucleus caudatus, putamen, globus pallidus, nucleus subthalamicus, substantia nigra",
    "Musculus levator ani: musculus puborectalis, musculus pubococcygeus, musculus iliococcygeus",
    "Nodi lymphoidei axillares, nodi lymphoidei inguinales superficiales",
    "Ramus circumflexus, ramus interventricularis anterior",
    "Commotio cerebri, contusio cerebri, compressio cerebri",
    "Musculus pectoralis major\nNervus pectoralis medialis et lateralis",
    "Ibuprofen, naproxen, diclofenac, celecoxib, indomethacin",
    "Omeprazole, pantoprazole, esomeprazole, lansoprazole, rabeprazole",
    "Sertraline, fluoxetine, paroxetine, citalopram, escitalopram, fluvoxamine",
    "Rituximab, trastuzumab, bevacizumab, pembrolizumab, nivolumab, ipilimumab",
    "Vincristine, vinblastine, paclitaxel, docetaxel, etoposide, irinotecan, topotecan",
    "Oxytocin, vasopressin, prolactin, somatotropin, thyrotropin, corticotropin",
    "Amitriptyline 25 mg; gabapentin 300 mg; pregabalin 75 mg; duloxetine 60 mg",
    "BRCA1, BRCA2, PALB2, ATM, CHEK2, TP53, PTEN, STK11, CDH1",
    "E11.9; I10; N18.3; J44.1; F32.1; G35; K50.0; M05.9",
    "Na 138, K 4.1, Cl 102, HCO3 24, Ca 2.35, Mg 0.81, PO4 1.1 mmol/L",
    "pH 7.21, pCO2 28 mmHg, pO2 96 mmHg, HCO3 11 mmol/L, BE -14, lactate 6.2",
    "α, β, γ, δ, ε, ζ, η, θ, κ, λ, μ",
    "C",
    "Warfarin",
    "120/80",
)

#: Latin that is prose.
LATIN_PROSE = (
    "Medicus aegrotum interrogat quando dolor coeperit, et ille respondet se iam tres dies febrem habere neque dormire posse.",
    "Omnis homo qui sanus esse vult modice edat et bibat, quia nimius cibus corpori nocet et somnum turbat.",
)

#: Other languages: ISO 639-1 code and text.
FOREIGN = (
    ("de", "Welcher Nerv versorgt den Musculus biceps brachii?\nDer Nervus musculocutaneus."),
    (
        "de",
        "Was ist die häufigste Ursache einer Eisenmangelanämie bei Männern über 50 Jahren?\nEine Blutung aus dem Magen-Darm-Trakt.",
    ),
    (
        "de",
        "Die Patientin klagt seit drei Tagen über Fieber und Husten. CRP 186 mg/L, Leukozyten 14,2/nl. Therapie: Amoxicillin/Clavulansäure.",
    ),
    (
        "de",
        "Bei Verdacht auf Lungenembolie wird zuerst die klinische Wahrscheinlichkeit bestimmt, dann das D-Dimer oder gleich eine CT-Angiographie.",
    ),
    ("de", "Wirkmechanismus von Metformin?\nHemmung der Glukoneogenese in der Leber"),
    ("fr", "Quel nerf innerve le diaphragme ?\nLe nerf phrénique, issu des racines C3 à C5."),
    (
        "fr",
        "Le patient se plaint d'une douleur thoracique depuis deux heures. La troponine est élevée et l'ECG montre un sus-décalage du segment ST.",
    ),
    (
        "fr",
        "Quels sont les effets indésirables de l'amiodarone ?\nUne dysthyroïdie, une fibrose pulmonaire et des dépôts cornéens.",
    ),
    (
        "fr",
        "La metformine est le traitement de première intention du diabète de type 2, sauf en cas d'insuffisance rénale sévère.",
    ),
    ("es", "¿Cuál es el tratamiento de elección de la anafilaxia?\nAdrenalina por vía intramuscular."),
    (
        "es",
        "El paciente refiere dolor abdominal desde hace dos días, con fiebre y vómitos. La ecografía muestra una apendicitis aguda.",
    ),
    (
        "es",
        "La insulina glargina se administra una vez al día y no debe mezclarse con otras insulinas en la misma jeringa.",
    ),
    (
        "es",
        "Nombre las ramas del tronco celíaco.\nArteria gástrica izquierda, arteria esplénica y arteria hepática común.",
    ),
    (
        "it",
        "Qual è la causa più frequente di ipotiroidismo nei paesi sviluppati?\nLa tiroidite di Hashimoto.",
    ),
    (
        "it",
        "Il paziente ha la febbre da tre giorni e una tosse secca. La radiografia del torace mostra un addensamento alla base destra.",
    ),
    (
        "it",
        "Il nervo vago esce dal cranio attraverso il forame giugulare insieme alla vena giugulare interna.",
    ),
    (
        "it",
        "Quali farmaci possono prolungare l'intervallo QT?\nPer esempio amiodarone, sotalolo e claritromicina.",
    ),
    (
        "pt",
        "Qual é o principal efeito adverso dos inibidores da enzima conversora da angiotensina?\nA tosse seca.",
    ),
    (
        "pt",
        "O doente tem dor no peito há duas horas, não melhora com o repouso e já tomou aspirina. A pressão arterial é de 150/95 mmHg.",
    ),
    ("pt", "A hepatite B pode ser prevenida com uma vacina que se dá logo após o nascimento."),
    ("nl", "Welke zenuw verzorgt de musculus deltoideus?\nDe nervus axillaris."),
    (
        "nl",
        "De patiënt heeft sinds gisteren koorts en hoofdpijn. Bij lichamelijk onderzoek is de nek stijf en er zijn kleine bloedinkjes in de huid.",
    ),
    (
        "nl",
        "Metformine wordt niet gegeven wanneer de nieren slecht werken, omdat er dan te veel melkzuur in het bloed kan komen.",
    ),
    (
        "pl",
        "Jakie są objawy niedoczynności tarczycy?\nZmęczenie, przyrost masy ciała, zaparcia i sucha skóra.",
    ),
    (
        "pl",
        "Pacjent zgłasza ból w klatce piersiowej od dwóch godzin. W badaniu EKG widoczne jest uniesienie odcinka ST.",
    ),
    ("pl", "Przed podaniem penicyliny należy zapytać chorego, czy nie jest na nią uczulony."),
    ("ru", "Какой препарат применяют при передозировке парацетамола?\nАцетилцистеин."),
    ("ru", "Больной жалуется на одышку и отёки ног. На рентгенограмме сердце увеличено, в лёгких застой."),
    ("ru", "Метформин не назначают при тяжёлой почечной недостаточности."),
    (
        "uk",
        "Які ознаки вказують на апендицит?\nБіль у правій здухвинній ділянці, нудота і підвищена температура.",
    ),
    ("zh", "二型糖尿病的一线药物是什么?\n二甲双胍,除非患者有严重的肾功能不全。"),
    ("zh", "患者发热三天,伴有咳嗽和胸痛,胸片显示右下肺有阴影,考虑为肺炎。"),
    ("zh", "高血压病人应当少吃盐,多运动,并且按时服药。"),
    ("ja", "横隔膜を支配する神経は何ですか。\n横隔神経です。"),
    ("ja", "患者は三日前から発熱と咳があり、胸部X線で右下肺に影が認められた。"),
    ("ja", "インスリンは食事の前に皮下に注射します。"),
    ("ko", "당뇨병 환자는 식사와 운동을 조절하고 약을 규칙적으로 먹어야 합니다."),
    ("ar", "ما هو العلاج الأول لمرض السكري من النوع الثاني؟\nالميتفورمين مع الحمية والرياضة."),
    ("ar", "يشكو المريض من ألم في الصدر منذ ساعتين، ويظهر تخطيط القلب تغيرات تدل على احتشاء."),
    ("ar", "يجب أن يشرب المريض كمية كافية من الماء كل يوم."),
    ("fa", "بیمار از سه روز پیش تب و سرفه دارد و در عکس سینه سایه‌ای دیده می‌شود."),
    ("he", "החולה מתלונן על כאבים בחזה ועל קוצר נשימה מאז אתמול בערב."),
    ("tr", "Tip 2 diyabette ilk seçilen ilaç hangisidir?\nBöbrek yetmezliği yoksa metformin."),
    (
        "tr",
        "Hasta iki gündür karın ağrısından yakınıyor. Ateşi var ve kusuyor. Ultrasonda apandisit görüldü.",
    ),
    ("tr", "Yüksek tansiyonu olan hastalar tuzu azaltmalı ve ilaçlarını düzenli almalıdır."),
    (
        "vi",
        "Thuốc nào được chọn đầu tiên cho bệnh đái tháo đường típ 2?\nMetformin, nếu chức năng thận còn tốt.",
    ),
    ("vi", "Bệnh nhân bị sốt và ho ba ngày nay, phim phổi cho thấy đám mờ ở đáy phổi phải."),
    ("vi", "Người bị tăng huyết áp nên ăn ít muối và uống thuốc đều đặn."),
    ("sv", "Patienten har haft feber och hosta i tre dagar. Lungröntgen visar en förtätning på höger sida."),
    ("sv", "Vilket läkemedel ges först vid anafylaxi?\nAdrenalin intramuskulärt i låret."),
    (
        "da",
        "Hvilken nerve forsyner mellemgulvet?\nDet gør nervus phrenicus, som kommer fra halsen og ikke fra brystet.",
    ),
    (
        "no",
        "Pasienten har hatt vondt i magen i to dager og kaster opp. Legen tror at det er blindtarmbetennelse.",
    ),
    ("fi", "Potilaalla on ollut kuumetta ja yskää kolme päivää. Keuhkokuvassa näkyy varjostuma oikealla."),
    (
        "cs",
        "Které léky se podávají při vysokém krevním tlaku?\nNapříklad ramipril, amlodipin nebo indapamid.",
    ),
    ("cs", "Pacient si stěžuje na bolest na hrudi, která trvá dvě hodiny a nepřechází v klidu."),
    ("hu", "A beteg három napja lázas és köhög. A mellkasröntgen jobb oldali árnyékot mutat."),
    (
        "ro",
        "Care este tratamentul de primă alegere în anafilaxie?\nAdrenalina administrată intramuscular în coapsă.",
    ),
    ("ro", "Pacientul acuză dureri abdominale de două zile, însoțite de febră și vărsături."),
    ("el", "Ο ασθενής έχει πυρετό και βήχα εδώ και τρεις ημέρες και δυσκολεύεται να αναπνεύσει."),
    ("id", "Pasien mengeluh nyeri dada sejak dua jam yang lalu dan tidak membaik dengan istirahat."),
    ("hi", "मरीज़ को तीन दिन से बुखार और खाँसी है, और उसे साँस लेने में तकलीफ़ हो रही है।"),
    ("th", "ผู้ป่วยมีไข้และไอมาสามวัน ภาพรังสีทรวงอกพบเงาที่ปอดขวา"),
    ("ca", "El pacient té febre i tos des de fa tres dies, i la radiografia mostra una ombra al pulmó dret."),
)

#: Questions in one language, answers in the other: codes and texts of both.
MIXED = (
    (
        "en",
        "What is the first-line treatment of type 2 diabetes?",
        "de",
        "Metformin, sofern die Nieren gut arbeiten, zusammen mit mehr Bewegung und einer gesunden Ernährung.",
    ),
    (
        "en",
        "Which nerve supplies the diaphragm, and from which roots does it come?",
        "fr",
        "C'est le nerf phrénique, qui vient des racines cervicales trois à cinq.",
    ),
    (
        "en",
        "A 45-year-old woman has had fever and a productive cough for three days. What should be done first?",
        "es",
        "Primero hay que hacer una radiografía de tórax y después empezar con un antibiótico.",
    ),
    (
        "en",
        "Why must insulin glargine not be mixed with other insulins in one syringe?",
        "it",
        "Perché il suo pH è acido e con le altre insuline precipita nella siringa.",
    ),
    (
        "en",
        "How is an overdose of paracetamol treated in the emergency department?",
        "pl",
        "Podaje się acetylocysteinę, najlepiej w ciągu ośmiu godzin od przyjęcia leku.",
    ),
    (
        "en",
        "What are the side effects of long treatment with prednisolone?",
        "ru",
        "Остеопороз, повышение сахара в крови, инфекции и слабость мышц.",
    ),
    (
        "en",
        "What should people with high blood pressure pay attention to?",
        "zh",
        "应当少吃盐,多运动,并且按时服药,定期测量血压。",
    ),
    (
        "de",
        "Was ist bei einer schweren allergischen Reaktion als Erstes zu geben?",
        "en",
        "Epinephrine into the muscle of the thigh, and then oxygen and fluids as needed.",
    ),
    (
        "fr",
        "Quels sont les signes d'une méningite chez le nourrisson ?",
        "en",
        "Fever, a bulging fontanelle, poor feeding, and a cry that cannot be soothed.",
    ),
    (
        "ru",
        "Почему при бронхиальной астме нельзя давать пропранолол?",
        "en",
        "Because it blocks the receptors that keep the airways open, and may cause an attack.",
    ),
)


def real_texts(real: Path) -> Iterator[tuple[str, str]]:
    """Every text in the folders of real raw data, as (folder, text), in a fixed order."""
    for path in sorted((real / "stackexchange").glob("*/Posts.xml")):
        for _, element in ElementTree.iterparse(path):
            if element.tag == "row":
                yield "stackexchange", html_to_text(element.get("Body") or "")
    for path in sorted((real / "medqa").rglob("*.jsonl")):
        for record in _lines(path):
            yield "medqa", "\n".join([record["question"], *record["options"].values()])
            if "metamap_phrases" in record:
                yield "medqa", "; ".join(record["metamap_phrases"])
    for record in _json(real / "pubmedqa" / "ori_pqal.json").values():
        yield "pubmedqa", "\n".join([record["QUESTION"], *record["CONTEXTS"]])
        yield from (("pubmedqa", text) for text in (*record["CONTEXTS"], record["LONG_ANSWER"]))
    for folder, file in (("wikidoc", "medical_meadow_small.json"), ("chatdoctor", "chatdoctor5k.json")):
        for record in _json(real / folder / file):
            yield folder, f"{record['input']}\n{record['output']}"
    for path in sorted((real / "wikidoc").glob("*.html")):
        yield "wikidoc", html_to_text(path.read_text(encoding="utf-8"))
    for path in sorted((real / "mmlu").rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from (("mmlu", "\n".join(row[:5])) for row in csv.reader(file))
    for folder in ("pubmed_health_advice", "pubmed_causal", "cord19"):
        for path in sorted((real / folder).rglob("*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    yield (
                        folder,
                        row["sentence"] if "sentence" in row else f"{row['title']}\n{row['abstract']}",
                    )
    for record in (
        *_lines(real / "medinstruct" / "MedInstruct-test.jsonl"),
        *_json(real / "medinstruct" / "med_seed.json"),
    ):
        yield from (("medinstruct", value) for value in record.values() if isinstance(value, str))
    yield from (("mediqa", text) for text in _strings(_json(real / "mediqa" / "validation.json")))
    yield from (("flashcards", text) for text in _cards(real))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _cards(real: Path) -> Iterator[str]:
    builder = Flashcards()
    for shard in builder.shards(find(builder, real)):
        if isinstance(shard, Shard):
            # Two of the files are damaged, or newer than known, on purpose.
            with contextlib.suppress(RawFileError):
                for example in builder.examples(shard):
                    if isinstance(example, Example):
                        yield f"{example.input}\n{example.output}"
