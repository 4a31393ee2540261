//! Words that products are made of, by category. Brands are invented.

/// What one category sells.
pub struct Shelf {
    /// Main category.
    pub name: &'static str,
    /// Leaf categories with their products, each with what it is good for.
    pub leaves: [(&'static str, &'static [(&'static str, &'static str)]); 3],
    /// Makers.
    pub brands: [&'static str; 8],
    /// Materials and manners.
    pub qualities: [&'static str; 8],
    /// Sizes and specifications, with the hyphens and points that a careless cleaner cuts at.
    pub sizes: [&'static str; 6],
    /// What the pages praise.
    pub features: [&'static str; 8],
}

/// All categories that can be asked for.
pub const SHELVES: [Shelf; 8] = [
    Shelf {
        name: "Kitchen & Dining",
        leaves: [
            (
                "Cookware",
                &[
                    ("Skillet", "searing steaks"),
                    ("Saucepan", "weeknight sauces"),
                    ("Stockpot", "big batches of soup"),
                    ("Dutch Oven", "slow stews"),
                ],
            ),
            (
                "Small Appliances",
                &[
                    ("Milk Frother", "my morning latte"),
                    ("Coffee Grinder", "fresh espresso"),
                    ("Hand Blender", "smoothies"),
                    ("Electric Kettle", "tea"),
                ],
            ),
            (
                "Kitchen Utensils",
                &[
                    ("Funnel Set", "filling jars"),
                    ("Chef's Knife", "chopping vegetables"),
                    ("Cutting Board", "carving a roast"),
                    ("Measuring Cups", "baking"),
                ],
            ),
        ],
        brands: [
            "Harlow & Finch",
            "Bellmere",
            "Copperleaf",
            "Oakhaven",
            "Saltmarsh",
            "Tavola Nove",
            "Winslow Kitchen",
            "Pinnacle Pantry",
        ],
        qualities: [
            "Stainless Steel",
            "Cast Iron",
            "Nonstick",
            "Bamboo",
            "Ceramic",
            "Hammered Copper",
            "Easy Pour",
            "Dishwasher-Safe",
        ],
        sizes: ["12-Inch", "1.5-Quart", "Set of 3", "10.25-Inch", "32-Ounce", "Large"],
        features: [
            "Cool-Touch Handle",
            "Pour Spout",
            "Glass Lid",
            "Measuring Marks",
            "Soft Grip",
            "Drip-Free Rim",
            "Storage Case",
            "Lifetime Warranty",
        ],
    },
    Shelf {
        name: "Electronics",
        leaves: [
            (
                "Cables & Adapters",
                &[
                    ("HDMI Cable", "the living room television"),
                    ("USB-C Hub", "my laptop"),
                    ("Extension Cord", "the workshop"),
                    ("Charging Cable", "the car"),
                ],
            ),
            (
                "Audio",
                &[
                    ("Wireless Earbuds", "the gym"),
                    ("Bluetooth Speaker", "the patio"),
                    ("Over-Ear Headphones", "long flights"),
                    ("Soundbar", "movie nights"),
                ],
            ),
            (
                "Accessories",
                &[
                    ("Portable Charger", "travel"),
                    ("Webcam", "video calls"),
                    ("Keyboard", "typing all day"),
                    ("Laptop Stand", "a small desk"),
                ],
            ),
        ],
        brands: ["Voltaire Labs", "Kestrel", "Nimbus Audio", "Corvia", "BrightWire", "Ohmly", "Polar Signal", "Tecton"],
        qualities: [
            "High-Speed",
            "Braided",
            "Gold-Plated",
            "Noise-Cancelling",
            "Slim",
            "Rugged",
            "Waterproof",
            "Low-Latency",
        ],
        sizes: ["6-Feet", "10,000 mAh", "4-Port", "1.2-Inch", "2-Pack", "15.6-Inch"],
        features: [
            "LED Indicator",
            "Fast Charging",
            "Carrying Pouch",
            "Built-In Microphone",
            "Surge Protection",
            "Aluminum Shell",
            "Auto Pairing",
            "Strain Relief",
        ],
    },
    Shelf {
        name: "Patio, Lawn & Garden",
        leaves: [
            (
                "Gardening Tools",
                &[
                    ("Pruning Shears", "the rose bushes"),
                    ("Garden Trowel", "planting bulbs"),
                    ("Hand Rake", "raised beds"),
                    ("Kneeling Pad", "weeding"),
                ],
            ),
            (
                "Watering",
                &[
                    ("Garden Hose", "the back yard"),
                    ("Watering Can", "balcony plants"),
                    ("Sprinkler", "a dry lawn"),
                    ("Drip Kit", "tomatoes"),
                ],
            ),
            (
                "Outdoor Decor",
                &[
                    ("Solar Lantern", "the walkway"),
                    ("Bird Feeder", "finches and jays"),
                    ("Wind Chime", "the porch"),
                    ("Planter Box", "herbs"),
                ],
            ),
        ],
        brands: [
            "Fernhill",
            "Greenway Acres",
            "Thistle & Thorn",
            "Morrow Garden",
            "Rainwright",
            "Meadowlark",
            "Stonebridge",
            "Sunfold",
        ],
        qualities: [
            "Heavy-Duty",
            "Rust-Proof",
            "Cedar",
            "Expandable",
            "Weatherproof",
            "Galvanized",
            "Kink-Free",
            "Hand-Forged",
        ],
        sizes: ["50-Feet", "8-Inch", "2-Gallon", "Pack of 4", "24-Inch", "Extra Wide"],
        features: [
            "Ergonomic Handle",
            "Brass Fittings",
            "Automatic Dusk Sensor",
            "Safety Lock",
            "Drainage Holes",
            "Squirrel Guard",
            "Adjustable Nozzle",
            "Hanging Hook",
        ],
    },
    Shelf {
        name: "Sports & Outdoors",
        leaves: [
            (
                "Camping & Hiking",
                &[
                    ("Sleeping Bag", "cold nights"),
                    ("Trekking Poles", "steep trails"),
                    ("Camp Stove", "breakfast outdoors"),
                    ("Headlamp", "early starts"),
                ],
            ),
            (
                "Exercise & Fitness",
                &[
                    ("Yoga Mat", "stretching at home"),
                    ("Resistance Bands", "physical therapy"),
                    ("Kettlebell", "short workouts"),
                    ("Foam Roller", "sore legs"),
                ],
            ),
            (
                "Cycling",
                &[
                    ("Bike Helmet", "commuting"),
                    ("Floor Pump", "road tires"),
                    ("Saddle Bag", "spare tubes"),
                    ("Bike Light", "riding home at dusk"),
                ],
            ),
        ],
        brands: [
            "Ridgepeak",
            "Alder Trail",
            "Cobalt Summit",
            "Fjordline",
            "Sparrowhawk",
            "Ironwillow",
            "Trailmoor",
            "Velodyne Works",
        ],
        qualities: [
            "Ultralight",
            "Insulated",
            "Foldable",
            "Non-Slip",
            "Reflective",
            "Carbon Fiber",
            "Compact",
            "All-Weather",
        ],
        sizes: ["20-Degree", "35-Pound", "6-Millimeter", "Size Medium", "300-Lumen", "72-Inch"],
        features: [
            "Carry Strap",
            "Quick-Release Buckle",
            "Compression Sack",
            "Moisture-Wicking Liner",
            "Shock Absorption",
            "Pressure Gauge",
            "USB Rechargeable Battery",
            "Textured Surface",
        ],
    },
    Shelf {
        name: "Office Products",
        leaves: [
            (
                "Writing",
                &[
                    ("Gel Pens", "taking notes"),
                    ("Fountain Pen", "letters"),
                    ("Highlighters", "studying"),
                    ("Mechanical Pencil", "drafting"),
                ],
            ),
            (
                "Paper",
                &[
                    ("Dotted Notebook", "bullet journaling"),
                    ("Desk Planner", "busy weeks"),
                    ("Index Cards", "vocabulary"),
                    ("Sticky Notes", "reminders"),
                ],
            ),
            (
                "Desk Organization",
                &[
                    ("Letter Tray", "incoming mail"),
                    ("File Box", "tax papers"),
                    ("Label Maker", "the pantry"),
                    ("Stapler", "thick reports"),
                ],
            ),
        ],
        brands: [
            "Quillmark",
            "Papermoon",
            "Aldine & Sons",
            "Deskwell",
            "Inkerton",
            "Folio North",
            "Brightledger",
            "Marginalia",
        ],
        qualities: ["Retractable", "Recycled", "Hardcover", "Smudge-Free", "Fine Point", "Mesh", "Pastel", "Jam-Free"],
        sizes: ["0.7-Millimeter", "Pack of 12", "A5", "3-Tier", "8.5 x 11 Inches", "200 Sheets"],
        features: [
            "Comfort Grip",
            "Elastic Closure",
            "Bleed-Proof Pages",
            "Refillable Cartridge",
            "Rounded Corners",
            "Ribbon Bookmark",
            "Non-Skid Feet",
            "Archival Ink",
        ],
    },
    Shelf {
        name: "Toys & Games",
        leaves: [
            (
                "Puzzles",
                &[
                    ("Jigsaw Puzzle", "rainy weekends"),
                    ("Wooden Brain Teaser", "my grandson"),
                    ("3D Puzzle", "patient teenagers"),
                    ("Floor Puzzle", "toddlers"),
                ],
            ),
            (
                "Building Sets",
                &[
                    ("Marble Run", "curious kids"),
                    ("Magnetic Tiles", "quiet play"),
                    ("Train Set", "the playroom"),
                    ("Robot Kit", "a first engine project"),
                ],
            ),
            (
                "Games",
                &[
                    ("Card Game", "family night"),
                    ("Strategy Board Game", "two players"),
                    ("Word Game", "parties"),
                    ("Dice Set", "our campaign"),
                ],
            ),
        ],
        brands: [
            "Larkspur Toys",
            "Tumbledown",
            "Pocket Otter",
            "Merrifield Games",
            "Blue Pelican",
            "Cog & Button",
            "Hatbox",
            "Little Quarry",
        ],
        qualities: [
            "Wooden",
            "Glow-in-the-Dark",
            "Deluxe",
            "Classic",
            "Illustrated",
            "Jumbo",
            "Cooperative",
            "Hand-Painted",
        ],
        sizes: ["1000-Piece", "Ages 8-12", "2-4 Players", "48-Piece", "Travel Size", "Set of 7"],
        features: [
            "Storage Tin",
            "Full-Color Guide",
            "Linen Finish",
            "Non-Toxic Paint",
            "Quick Rules",
            "Sturdy Box",
            "Bonus Poster",
            "Interlocking Pieces",
        ],
    },
    Shelf {
        name: "Pet Supplies",
        leaves: [
            (
                "Dogs",
                &[
                    ("Dog Leash", "evening walks"),
                    ("Chew Toy", "our terrier"),
                    ("Dog Bed", "an old retriever"),
                    ("Training Treats", "puppy classes"),
                ],
            ),
            (
                "Cats",
                &[
                    ("Scratching Post", "sharp claws"),
                    ("Litter Mat", "a clean floor"),
                    ("Cat Tunnel", "indoor cats"),
                    ("Feather Wand", "a bored kitten"),
                ],
            ),
            (
                "Feeding",
                &[
                    ("Water Fountain", "picky drinkers"),
                    ("Slow Feeder Bowl", "fast eaters"),
                    ("Food Container", "a week of kibble"),
                    ("Travel Bowl", "hikes"),
                ],
            ),
        ],
        brands: [
            "Wagsworth",
            "Pawtucket Lane",
            "Velvet Whisker",
            "Barkley Mills",
            "Tailfeather",
            "Furrow & Co.",
            "Good Biscuit",
            "Maple Hound",
        ],
        qualities: [
            "Orthopedic",
            "Chew-Resistant",
            "Washable",
            "Grain-Free",
            "Sisal",
            "Silicone",
            "Memory Foam",
            "Quiet",
        ],
        sizes: ["5-Feet", "Medium Dogs", "64-Ounce", "Pack of 2", "36 x 28 Inches", "2.5-Liter"],
        features: [
            "Padded Handle",
            "Non-Slip Base",
            "Removable Cover",
            "Airtight Seal",
            "Replaceable Filter",
            "Catnip Pouch",
            "Reflective Stitching",
            "Easy Rinse Design",
        ],
    },
    Shelf {
        name: "Tools & Home Improvement",
        leaves: [
            (
                "Hand Tools",
                &[
                    ("Claw Hammer", "framing"),
                    ("Screwdriver Set", "small repairs"),
                    ("Socket Wrench Set", "the truck"),
                    ("Tape Measure", "hanging cabinets"),
                ],
            ),
            (
                "Power Tools",
                &[
                    ("Cordless Drill", "building shelves"),
                    ("Orbital Sander", "refinishing a table"),
                    ("Heat Gun", "old paint"),
                    ("Rotary Tool", "fine carving"),
                ],
            ),
            (
                "Lighting",
                &[
                    ("Desk Lamp", "late reading"),
                    ("Motion Sensor Light", "the driveway"),
                    ("Dimmer Switch", "the dining room"),
                    ("Night Light", "the hallway"),
                ],
            ),
        ],
        brands: [
            "Grantham Forge",
            "Ironvale",
            "Hollis Tool",
            "Brackenridge",
            "Lumenfield",
            "Plumb & True",
            "Steelhart",
            "Carrow",
        ],
        qualities: [
            "Forged Steel",
            "Magnetic",
            "Variable-Speed",
            "Brushless",
            "Energy-Saving",
            "Fiberglass",
            "Self-Locking",
            "Dimmable",
        ],
        sizes: ["16-Ounce", "25-Feet", "20-Volt", "40-Piece", "60-Watt", "1/4-Inch"],
        features: [
            "Anti-Vibration Grip",
            "Dust Collector",
            "Carrying Case",
            "Swivel Head",
            "Belt Clip",
            "Timer",
            "Hardened Tips",
            "Two Batteries",
        ],
    },
];
