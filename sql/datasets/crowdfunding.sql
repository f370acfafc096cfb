-- The tables of the shipped dataset "crowdfunding". Created when the dataset is first used; existing tables of these
-- names are left as they are. Every key is one that an export has itself, so that all rows of a record come from that
-- record alone, and a file that is loaded again finds its own rows.

-- A backer: one person in one shop. Only what is the same for all of a person's pledges; the rest is the pledge's.
CREATE TABLE IF NOT EXISTS public.backers (
    shop        text NOT NULL,
    email       text NOT NULL,
    name        text,
    backer_uid  text,                        -- the account on the platform
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop, email)
);

-- A product: what a backer gets for a pledge, called reward, perk or pledge level.
CREATE TABLE IF NOT EXISTS public.products (
    project     text NOT NULL,
    name        text NOT NULL,
    sku         text,
    price       numeric(12, 2) CHECK (price >= 0),
    PRIMARY KEY (project, name)
);

-- A pledge: one order of one backer in one project.
CREATE TABLE IF NOT EXISTS public.pledges (
    project     text NOT NULL,
    pledge_id   text NOT NULL,               -- as the platform numbers them; text, because some are not numbers
    shop        text NOT NULL,
    email       text NOT NULL,
    amount      numeric(12, 2) NOT NULL CHECK (amount >= 0),
    shipping    numeric(12, 2) CHECK (shipping >= 0),
    currency    text,
    country     text,                        -- where it is to be sent
    status      text,
    fulfillment text,
    pledged_at  timestamptz,
    notes       text,
    PRIMARY KEY (project, pledge_id),
    FOREIGN KEY (shop, email) REFERENCES public.backers
);
CREATE INDEX IF NOT EXISTS pledges_of_backer ON public.pledges (shop, email);

-- A survey: where a pledge is to be sent. A pledge without one has not been asked, or has not answered.
CREATE TABLE IF NOT EXISTS public.surveys (
    project     text NOT NULL,
    pledge_id   text NOT NULL,
    status      text DEFAULT 'completed'     -- exports that only have the time of the answer have answered surveys
                CHECK (status IN ('not_sent', 'sent', 'incomplete', 'completed')),
    answered_at timestamptz,
    recipient   text,
    address1    text,
    address2    text,
    city        text,
    state       text,
    postal_code text,
    country     text,
    phone       text,
    PRIMARY KEY (project, pledge_id),
    FOREIGN KEY (project, pledge_id) REFERENCES public.pledges
);

-- The inventory: how many of which products a pledge takes. Some exports have a record for each.
CREATE TABLE IF NOT EXISTS public.inventory (
    project     text NOT NULL,
    pledge_id   text NOT NULL,
    product     text NOT NULL,
    quantity    integer NOT NULL DEFAULT 1 CHECK (quantity >= 0),
    PRIMARY KEY (project, pledge_id, product),
    FOREIGN KEY (project, pledge_id) REFERENCES public.pledges,
    FOREIGN KEY (project, product) REFERENCES public.products
);
