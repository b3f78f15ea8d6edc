//! Events as JSON: one flat object for each, with `event` naming its kind and times in ISO 8601.

use forebay_model::Timestamp;
use nexmark::event;
use serde::Serialize;

/// An event in the form that records carry.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// Somebody signs up.
    Person {
        id: usize,
        name: &'a str,
        email_address: &'a str,
        credit_card: &'a str,
        city: &'a str,
        state: &'a str,
        #[serde(serialize_with = "iso")]
        date_time: Timestamp,
        extra: &'a str,
    },
    /// Something is offered.
    Auction {
        id: usize,
        item_name: &'a str,
        description: &'a str,
        initial_bid: usize,
        reserve: usize,
        #[serde(serialize_with = "iso")]
        date_time: Timestamp,
        #[serde(serialize_with = "iso")]
        expires: Timestamp,
        seller: usize,
        category: usize,
        extra: &'a str,
    },
    /// Somebody bids.
    Bid {
        auction: usize,
        bidder: usize,
        price: usize,
        channel: &'a str,
        url: &'a str,
        #[serde(serialize_with = "iso")]
        date_time: Timestamp,
        extra: &'a str,
    },
}

impl<'a> Event<'a> {
    pub(super) fn of(event: &'a event::Event) -> Self {
        match event {
            event::Event::Person(person) => Self::Person {
                id: person.id,
                name: &person.name,
                email_address: &person.email_address,
                credit_card: &person.credit_card,
                city: &person.city,
                state: &person.state,
                date_time: time(person.date_time),
                extra: &person.extra,
            },
            event::Event::Auction(auction) => Self::Auction {
                id: auction.id,
                item_name: &auction.item_name,
                description: &auction.description,
                initial_bid: auction.initial_bid,
                reserve: auction.reserve,
                date_time: time(auction.date_time),
                expires: time(auction.expires),
                seller: auction.seller,
                category: auction.category,
                extra: &auction.extra,
            },
            event::Event::Bid(bid) => Self::Bid {
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                channel: &bid.channel,
                url: &bid.url,
                date_time: time(bid.date_time),
                extra: &bid.extra,
            },
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Person { .. } => "person",
            Self::Auction { .. } => "auction",
            Self::Bid { .. } => "bid",
        }
    }

    /// The person or the auction that it is about.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Person { id, .. } | Self::Auction { id, .. } => id.to_string(),
            Self::Bid { auction, .. } => auction.to_string(),
        }
    }

    pub(super) fn time(&self) -> Timestamp {
        match self {
            Self::Person { date_time, .. } | Self::Auction { date_time, .. } | Self::Bid { date_time, .. } => {
                *date_time
            }
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        // Plain text and numbers into memory: nothing that can fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn time(milliseconds: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(milliseconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

fn iso<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}
